"""Average pools of patches: whole windows lie inside a lane's patch.

A block's planes are at displacements that differ by whole patches, at least two windows, so that no
two of them add to one pooled plane at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence

from widegram.cuda.plane_pool import PlanePool


class PatchPool(PlanePool):
    """One ``pool`` step of the patch form."""

    def __call__(self, planes: Sequence[Sequence[str]], columns: int) -> None:
        """``planes``: for K, and T, the names of a lane's patch, row by row of ``columns``."""
        sy, sx = self.strides
        self.rows()
        self.write(*(f"db{z} = (dx + {z}) // {sx} % {self.store.shape[1]}" for z in range(sx)))
        self.inside()
        fields = len(planes)
        names = [name for plane in planes for name in plane]
        rows = [names[at : at + columns] for at in range(0, len(names), columns)]
        taps = [
            [f"{self.scale} * {name}" for row in rows[v::sy] for name in row] for v in range(sy)
        ]

        def add(v: int, sums: list[str]) -> None:
            def add_columns(z: int, found: list[str]) -> None:
                number = self.write.let(self.plane(f"da{v}", f"db{z}"), "to")
                self.add("alive", number, found, fields, columns // sx)

            self.runs("db", [sums[z::sx] for z in range(sx)], add_columns)

        self.runs("da", taps, add)
        # The next displacement may add to these planes by other threads.
        self.write("cuda.syncthreads()")
