"""Factors of two images in shared memory, for the patches of a block."""

from __future__ import annotations

from contextlib import nullcontext

from widegram.cuda.generated import WARP
from widegram.cuda.patch_fit import VECTOR, Patch, vector
from widegram.cuda.registers import FactorsAt
from widegram.cuda.text_ops import PixelFactors
from widegram.cuda.writer import Writer
from widegram.plan.masks import Pair

# An array in global memory, and the position of the first number to copy from it.
Source = tuple[str, str]


class Stage:
    """Writes the copying of planes from global memory to shared memory, and reads from there.

    ``plane``: numbers of one plane in global memory. Threads copy whole rows: as many at a time as
    the block has threads for and as divide the height. The text uses ``tid``, and ``mine`` and
    ``theirs``, the positions of this lane's patch in x and in the turned x'.
    """

    def __init__(self, write: Writer, patch: Patch, shape: Pair, plane: int) -> None:
        self.write, self.patch, self.shape, self.plane = write, patch, shape, plane
        height, width = shape
        most = WARP * patch.warps // width
        self.at_once = max(n for n in range(1, most + 1) if height % n == 0)
        self.copying = self.at_once * width
        # Threads that fetch what another one copies, and store nothing.
        self.idle = WARP * patch.warps - self.copying
        self.vector = vector(patch, write.dtype)
        self.waiting: list[tuple[str, str, int]] = []
        self.names: list[str] = []
        self.count = 0

    def start(self, half: int) -> None:
        """Make the shared memory of two halves, and where in a plane a thread copies."""
        self.half = half
        self.write(
            f"staged = cuda.shared.array({2 * half}, scalar, {VECTOR})",
            "turn = 0",
            f"sa = min(tid & 1023, {self.copying - 1})",
        )

    def turn(self, over: str, aside: str) -> None:
        """Where a thread copies from x' turned by that many rows and columns. The rows at the end
        of every plane (:mod:`widegram.cuda.factors`) make up for those turned out of it."""
        width = self.shape[1]
        self.write(f"sb = (sa // {width} + {over}) * {width} + (sa + {aside}) % {width}")

    def fetch(self, x: Source, y: Source, count: int) -> None:
        """Begin to copy ``count`` planes of both images: the first of them is on its way."""
        self.count = count
        self.waiting = [(*image, n * self.plane) for image in (x, y) for n in range(count)]
        self._send()

    def advance(self) -> None:
        """Put the plane that is on its way into shared memory, and send for the next."""
        number = 2 * self.count - len(self.waiting)
        first = self.write.let("turn + sa", "at")
        with self.write.block(f"if tid < {self.copying}:") if self.idle else nullcontext():
            for name, shift in zip(self.names, self._shifts(), strict=True):
                to = number * self.shape[0] * self.shape[1] + shift
                self.write(f"staged[u({first} + {to})] = {name}")
        del self.waiting[0]
        self._send()

    def done(self) -> FactorsAt:
        """All is in shared memory: how a pixel's numbers are read."""
        while self.waiting:
            self.advance()
        self.write("cuda.syncthreads()")
        size = self.count * self.shape[0] * self.shape[1]
        x, y = (
            _Image(self, self.write.let(f"turn + {place}", "at"), shift)
            for place, shift in (("mine", 0), ("theirs", size))
        )
        self.write(f"turn = {self.half} - turn")
        return lambda n: (_Pixel(x, n), _Pixel(y, n))

    def _send(self) -> None:
        """Read this thread's numbers of the next plane, if any."""
        for array, place, shift in self.waiting[:1]:
            at = self.write.let(place, "at")
            self.names = [
                self.write.let(f"{array}[u({at} + {shift + part})]", "g") for part in self._shifts()
            ]

    def _shifts(self) -> range:
        """Positions of the numbers of a plane that a thread copies, less that of the first."""
        height, width = self.shape
        return range(0, height * width, self.at_once * width)


class _Image:
    """Planes of one image at ``at`` + ``shift`` in shared memory."""

    def __init__(self, stage: Stage, at: str, shift: int) -> None:
        self.stage, self.at, self.shift, self.count = stage, at, shift, stage.count
        self.loaded: dict[int, str] = {}

    def name(self, factor: int, pixel: int) -> str:
        """One number; its vector is loaded when the first of it is asked for."""
        vector, write = self.stage.vector, self.stage.write
        first = pixel - pixel % vector
        place = self.place(first) + factor * self.stage.shape[0] * self.stage.shape[1]
        if vector == 1:
            return write.let(f"staged[u({self.at} + {place})]", "f")
        if place not in self.loaded:
            names = [write.name("f") for _ in range(vector)]
            load = write.intrinsic(f"loaded{vector}")
            write(f"{', '.join(names)} = {load}(staged, u({self.at} + {place}))")
            self.loaded.update((place + n, name) for n, name in enumerate(names))
        return self.loaded[place + pixel % vector]

    def place(self, pixel: int) -> int:
        """Position of a pixel of the patch, less that of ``at``."""
        row, column = divmod(pixel, self.stage.patch.columns)
        return self.shift + row * self.stage.shape[1] + column


class _Pixel(PixelFactors):
    """The numbers of an image at one pixel of a patch."""

    def __init__(self, image: _Image, pixel: int) -> None:
        self.image, self.pixel = image, pixel

    @property
    def count(self) -> int:
        return self.image.count

    def __getitem__(self, n: int) -> str:
        return self.image.name(n, self.pixel)

    def term(self, n: str) -> str:
        height, width = self.image.stage.shape
        place = f"{self.image.at} + {self.image.place(self.pixel)} + {n} * {height * width}"
        return f"staged[u({place})]"
