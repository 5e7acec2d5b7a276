"""What neural-tangents' ``stax`` has and this one does not, each with what to use in its place."""

from __future__ import annotations

_MASKS = "it concerns finite networks; kernel_fn(x1, x2, mask_constant=c) masks inputs"
_INTERNAL = "it serves to write new layers; widegram.load_network describes networks as data"

REFUSED: dict[str, str] = {
    "Bool": _INTERNAL,
    "Diagonal": _INTERNAL,
    "MaskedArray": _MASKS,
    "layer": _INTERNAL,
    "requires": _INTERNAL,
    "supports_masking": _INTERNAL,
    "unmask_fn": _MASKS,
}
