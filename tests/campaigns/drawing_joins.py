"""Random branches that meet: sums, products, values side by side; of one input, or of a list."""

from __future__ import annotations

from campaigns.drawing import Drawing, Shape, Spec, State


class Joins(Drawing):
    """Draws layers with branches; ``attends``: some layer may not say how many channels it has."""

    attends = False

    def join(self, state: State, keep: bool, depth: int) -> tuple[list[Spec], State]:
        """``keep``: the image's shape stays."""
        kind = self.one_of(("FanInSum", "FanInProd", "channels", *([] if keep else ["pixels"])))
        if kind == "pixels" and not state.shape:
            kind = "channels"
        change = None
        if state.shape and not keep and self.chance(0.4):
            change, _ = self.windowed("Conv", state.shape, False)
        ends: list[State] = []
        branches: list[list[Spec]] = []
        for _ in range(self.whole(1, 3)):
            branch, after = self.branch(kind, state, change, depth)
            branches.append(branch)
            ends.append(after)
        return self.joined(kind, branches, ends)

    def branch(
        self, kind: str, state: State, change: Spec | None, depth: int
    ) -> tuple[list[Spec], State]:
        """One branch, perhaps the identity where its channels are those of the others."""
        wide = state.affine and bool(state.shape) and kind in ("FanInProd", "channels")
        known = not (self.attends and kind == "channels")
        if change is None and known and (state.gaussian or wide) and self.chance(0.4):
            return [], state
        layers, after = self.side(state, change, depth + 1)
        if kind == "FanInProd" and after.gaussian and self.chance(0.5):
            more, after = self.activation(after)
            layers += more
        if kind == "channels" and self.attends:
            layers.append(self.dense())
            after = after._replace(gaussian=True, affine=True)
        return layers, after

    def of_several(self, shapes: list[Shape]) -> tuple[list[Spec], State]:
        """A branch for each input of a list: images of one size stay images, or all become
        vectors."""
        alike = len({shape[:-1] for shape in shapes}) == 1
        ends: list[State] = []
        branches: list[list[Spec]] = []
        for shape in shapes:
            state = State(shape[:-1], False, False)
            if alike:
                branch, after = self.side(state, None, 1)
            else:
                branch, after = [*self.network(state), self.dense()], State((), True, True)
            branches.append(branch)
            ends.append(after)
        kind = self.one_of(("FanInSum", "FanInProd", "channels"))
        (first, *rest), after = self.joined(kind, branches, ends)
        return [{**first, "parallel": True}, *rest], after

    def joined(
        self, kind: str, branches: list[list[Spec]], ends: list[State]
    ) -> tuple[list[Spec], State]:
        """What makes one value of them; behind channels side by side a Dense, which makes them as
        many as before."""
        after = ends[0]._replace(affine=any(end.affine for end in ends))
        gaussian = all(end.gaussian for end in ends)
        if kind == "FanInSum":
            return [{"layer": kind, "branches": branches}], after._replace(gaussian=gaussian)
        if kind == "FanInProd":
            alone = len(ends) == 1 and gaussian
            return [{"layer": kind, "branches": branches}], after._replace(gaussian=alone)
        axes = len(after.shape)
        if kind == "channels":
            layer = {"layer": "FanInConcat", "branches": branches,
                     "axis": self.one_of((-1, axes + 1))}  # fmt: skip
            layers: list[Spec] = [layer]
            if after.shape and self.chance(0.3):
                more, after = self.pool(after, True)
                layers += more
            return [*layers, self.dense()], State(after.shape, True, True)
        along = self.whole(0, axes - 1)
        shape = list(after.shape)
        shape[along] *= len(ends)
        layer = {"layer": "FanInConcat", "branches": branches, "axis": along + 1}
        return [layer], State(tuple(shape), gaussian, after.affine)
