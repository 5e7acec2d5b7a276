"""Every form that the table of forms knows, on this machine: which is the fastest, which is chosen.

A machine with wider registers can run the forms for narrower ones too, with the features that it
would lack there switched off: those rows have the clock of this machine, not of the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from widegram.cpu.kernels import forms
from widegram.cpu.kernels.forms import Form
from widegram.cpu.kernels.processors import Processor, host, without
from widegram.cpu.kernels.variants import GAPS, Variant
from widegram_bench.roof import RoofRows, formula
from widegram_bench.timing import TimeBudget, Turns, once

Say = Callable[[str], None]
_SAMPLE = 0.005  # seconds of a turn


@dataclass(frozen=True)
class FormSizes:
    """What is measured."""

    activations: tuple[str, ...] = ("Relu", "Erf")
    dtypes: tuple[str, ...] = ("float32", "float64")
    kinds: tuple[str, ...] = ("box3", "tap")
    most: int | None = None  # forms of each, all of them where None


QUICK = FormSizes(("Relu",), ("float32",), ("box3",), 2)


def processors() -> dict[str, Processor]:
    """This one, and itself without features that other processors lack, by what is off."""
    found = {"": host()}
    if host().has("avx512f"):
        found["-avx512f"] = without(host(), "avx512f")
    return found


def measure(
    seconds: float, sizes: FormSizes | None = None, say: Say = lambda line: None
) -> list[dict[str, Any]]:
    """Rows of all forms within about ``seconds``, beside compiling.

    * ``activation``, ``dtype``, ``kind``, ``code`` of the formula, ``off``: features switched off
    * ``form`` and ``rate``: element-layers a second on one thread
    * ``best``: the fastest of those; ``chosen``: the one that the engine takes there

    All forms of one activation, dtype and kind are measured in turns.
    """
    sizes = sizes or FormSizes()
    cases = [(a, d, k) for a in sizes.activations for d in sizes.dtypes for k in sizes.kinds]
    clock = TimeBudget(seconds, len(cases))
    found: list[dict[str, Any]] = []
    for activation, dtype, kind in cases:
        with clock.apart():
            spins = list(_spins(activation, dtype, kind, sizes.most))
        times = Turns(*(spin.run for spin in spins)).take(clock.next(), 1)
        rates = [spin.work / time for spin, time in zip(spins, times, strict=True)]
        for off in {spin.off: None for spin in spins}:
            rows = [(s, rate) for s, rate in zip(spins, rates, strict=True) if s.off == off]
            top = max(rate for _, rate in rows)
            found += [
                {
                    "activation": activation, "dtype": dtype, "kind": kind,
                    "code": spin.code, "off": off, "form": spin.form.text(), "rate": rate,
                    "best": rate == top, "chosen": spin.chosen,
                }
                for spin, rate in rows
            ]  # fmt: skip
        say(f"{activation} {dtype} {kind}: {max(rates):.3g} element-layers/s")
    return found


@dataclass(frozen=True)
class _Spin:
    """One form, ready: ``work`` element-layers a turn."""

    form: Form
    off: str
    code: str
    chosen: bool
    rows: RoofRows
    repeats: int

    @property
    def work(self) -> float:
        """Element-layers of a turn."""
        return self.repeats * self.rows.elements

    def run(self) -> None:
        """A turn."""
        self.rows.spin(self.repeats)


def _spins(activation: str, dtype: str, kind: str, most: int | None) -> Sequence[_Spin]:
    """All forms of a kernel on this processor, and on it with less."""
    made = formula(activation, dtype)
    variant = Variant(kind, made.code, True, False, dtype, packed=GAPS)
    found = []
    for off, processor in processors().items():
        chosen = forms.chosen(variant, processor)
        others = (f for f in forms.known(variant) if f != chosen)
        for form in [chosen, *others][:most]:
            rows = RoofRows(made, kind, True, dtype, form, processor)
            rows.spin(1)
            repeats = max(1, int(_SAMPLE / max(once(partial(rows.spin, 4)) / 4, 1e-9)))
            found.append(_Spin(form, off, made.code, form == chosen, rows, repeats))
    return found
