"""Compiled plane kernels, by address: one small function per variant, kept on disk.

The driver calls them through their addresses, so a new network needs no compilation: at most a
variant (an activation with a kind of window) that no network used before.
"""

from __future__ import annotations

from functools import cache

from widegram.cpu.kernels import forms, object_code
from widegram.cpu.kernels.forms import Form
from widegram.cpu.kernels.processors import Processor, host
from widegram.cpu.kernels.variants import Variant


def address(
    variant: Variant,
    form: Form | None = None,
    processor: Processor | None = None,
    width: int = forms.WIDE,
    small: bool = False,
) -> int:
    """The address of a compiled kernel, which the first call compiles or reads from disk.

    ``form``: that for the processor and rows of ``width`` pixels unless it is given, in planes
    ``small`` enough for charts; ``processor``: this machine's, or one that it can be taken for.
    """
    processor = processor or host()
    return written(variant, form or forms.chosen(variant, processor, width, small), processor)


@cache
def written(variant: Variant, form: Form, processor: Processor) -> int:
    """The address of a kernel in a form."""
    name = f"plane_{variant.text().replace('|', '_')}_{form.text()}"
    return object_code.address(name, lambda: _emitted(variant, processor, form), processor)


def _emitted(variant: Variant, processor: Processor, form: Form) -> tuple[str, str]:
    """LLVM IR of a variant and the name of its function."""
    from widegram.cpu.kernels.emitting import emitted

    return emitted(variant, processor, form)
