"""From a network to the kernels that compute it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from widegram.cuda import patch_fit, point, strip_fit
from widegram.cuda.block import BlockForm
from widegram.cuda.block_elements import MOST_THREADS
from widegram.cuda.context import Context
from widegram.cuda.factors import device_layout
from widegram.cuda.generated import SHARED_BYTES, KernelText
from widegram.cuda.patch import PatchForm
from widegram.cuda.strip import StripForm
from widegram.errors import WidegramError
from widegram.network.model import Network
from widegram.plan.formulas import FactorLayout, choose_formulas, factor_layout
from widegram.plan.graph import first_map
from widegram.plan.plan import Plan, build
from widegram.plan.precision import SERIES_ACCEPTED
from widegram.plan.program import Program
from widegram.plan.steps import Window
from widegram.plan.stores import Stores
from widegram.validation.choices import KERNELS

# The forms of kernels of planes by dtype, in order of preference; 'block' holds every program. On
# an H200 patches were 1.2 to 1.4 times as fast as strips in float32, and no faster in float64.
FORMS = {"float32": ("patch", "strip", "block"), "float64": ("strip", "block")}


@dataclass(frozen=True)
class KernelTexts:
    """The kernels of a plan in the order in which they run on a batch of pairs.

    ``product``: the kernel of inner products that vectors need first; ``layout``: of the factors of
    images as the CPU makes them.
    """

    context: Context
    layout: FactorLayout
    kernels: tuple[KernelText, ...]
    product: KernelText | None

    @property
    def stores(self) -> Stores:
        """What a pair keeps between kernels."""
        return self.context.stores

    @property
    def scratch(self) -> int:
        """Numbers of global memory that the planes of a pair take."""
        return max((kernel.scratch for kernel in self.kernels), default=0)

    @property
    def sums(self) -> int:
        """Doubles that the sums of a pair and their accumulators in global memory take."""
        return self.stores.sums + max((kernel.held for kernel in self.kernels), default=0)

    def text(self) -> str:
        """All kernels, one after the other."""
        every = (*([self.product] if self.product else []), *self.kernels)
        return "\n\n".join(
            f"# {k.name}: form {k.form}, threads {k.threads}\n{k.text}" for k in every
        )


def source_of(
    network: Network,
    get: Sequence[str] = KERNELS,
    depths: Sequence[int] | None = None,
    dtype: str = "float32",
    largest: float = 1.0,
    shared: int = SHARED_BYTES,
    forms: Sequence[str] = (),
    threads: int = MOST_THREADS,
    accept: float = SERIES_ACCEPTED,
    zeros: bool = False,
) -> KernelTexts:
    """The kernels of a network. ``largest``: the largest mean square of an input pixel; ``accept``,
    ``zeros`` as for :func:`choose_formulas`; ``shared``, ``forms``, ``threads`` as for
    :func:`generate`.

    Behind strided convolutions planes are stored where that lets the others stay in registers.

    Raises WidegramError for a layer that makes all its planes at once, or takes several inputs, for
    which there are no kernels.
    """

    if network.inputs:
        name = type(network.layers[0]).__name__
        raise WidegramError(
            f"layers[0] {name}: joins several inputs, which have no CUDA kernels; use --device cpu"
        )

    def made(one_shape: bool) -> KernelTexts:
        plan = build(network, tuple(get), tuple(depths or ()) or None, dtype, one_shape, largest)
        if where := first_map(plan.nodes):
            raise WidegramError(f"{where}: has no CUDA kernels; use --device cpu")
        layout = factor_layout(plan, choose_formulas(plan, largest, dtype, accept, zeros))
        return generate(plan, layout, dtype, threads, forms, shared)

    source = made(one_shape=True)
    return source if _strides_in_registers(source) else made(one_shape=False)


def _strides_in_registers(source: KernelTexts) -> bool:
    """Whether no kernel of the block form has a strided convolution."""
    context = source.context
    forms = [kernel.form for kernel in source.kernels if kernel.form != "point"]
    programs = [p for p in context.plan.cross.programs if p.steps and not point.fits(context, p)]
    return not any(
        form == "block" and isinstance(step, Window) and step.affine.strides != (1, 1)
        for form, program in zip(forms, programs, strict=True)
        for step in program.steps
    )


def generate(
    plan: Plan,
    layout: FactorLayout,
    dtype: str,
    threads: int = MOST_THREADS,
    forms: Sequence[str] = (),
    shared: int = SHARED_BYTES,
) -> KernelTexts:
    """Write the kernels of ``plan``.

    ``threads``: most threads of a block (a power of two) in the block form; ``forms``: the forms
    of planes that may be used, 'patch', 'strip' and 'block', the first that a program fits; 'block'
    holds every program, so that it comes last; () means those of :data:`FORMS`; ``shared``: bytes
    of shared memory that a block may use on the device, by default what every card gives.
    """
    context = Context(plan, device_layout(plan.nodes, layout), dtype, shared)
    stages = [(n, program) for n, program in enumerate(plan.cross.programs) if program.steps]
    kernels, forms = [], forms or FORMS[dtype]
    for one_pixel, group in groupby(stages, lambda stage: point.fits(context, stage[1])):
        numbers, programs = zip(*group, strict=True)
        if one_pixel:
            name = _stages(numbers)
            kernels.append(point.PointForm(context, programs).kernel(name))
            continue
        for n, program in zip(numbers, programs, strict=True):
            kernels.append(_planes(context, program, forms, threads, _stages([n])))
    product = point.product_kernel(dtype) if plan.vector else None
    return KernelTexts(context, layout, tuple(kernels), product)


def _stages(numbers: Sequence[int]) -> str:
    """What a kernel of these stages is called."""
    first, last = numbers[0], numbers[-1]
    return f"stage {first}" if first == last else f"stages {first} to {last}"


def _planes(
    context: Context, program: Program, forms: Sequence[str], threads: int, name: str
) -> KernelText:
    """A program of planes in the first of ``forms`` that holds it."""
    for form in forms:
        match form:
            case "patch" if patch_fit.fits(context, program):
                return PatchForm(context, program).kernel(name)
            case "strip" if strip_fit.fits(context, program):
                return StripForm(context, program).kernel(name)
            case "block":
                return _block(context, program, threads, name)
            case "patch" | "strip":
                continue
            case _:
                raise ValueError(f"form {form!r}: expected 'patch', 'strip' or 'block'")
    kinds = ", ".join(sorted({step.kind for step in program.steps}))
    listed = ", ".join(forms)
    raise ValueError(f"none of the forms {listed} holds a program of {kinds}; add 'block'")


def _block(context: Context, program: Program, threads: int, name: str) -> KernelText:
    """The general form; a block whose planes leave room for few others gets twice the threads."""
    kernel = BlockForm(context, program, threads).kernel(name)
    if not kernel.dynamic:
        return kernel
    wide = BlockForm(context, program, 2 * threads).kernel(name)
    return wide if wide.dynamic else kernel
