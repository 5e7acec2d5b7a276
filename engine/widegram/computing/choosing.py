"""The choice of an evaluator by device."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from widegram.backends.evaluator import Evaluator
from widegram.backends.job import Job
from widegram.computing.devices import cuda_numbers
from widegram.machine.dtypes import FLOOR
from widegram.machine.log import logger
from widegram.plan.precision import DoubleNeeded


def make_evaluator(device: str, job: Job) -> Evaluator:
    """An evaluator of ``job`` on ``device``, as :func:`~widegram.computing.devices.resolve_device`
    gives it; several cards share the tiles. Device 'reference' is the dense float64 one.

    Where float32 cannot hold an activation's values at the variances of these inputs, the
    evaluator computes in float64 and rounds its tiles. Raises WidegramError where the
    backend cannot compute the network.
    """
    try:
        return on_device(device, job)
    except DoubleNeeded as reason:
        from widegram.backends.rounded import Rounded

        logger.info("computed in float64 and rounded: %s", str(reason).partition(";")[0])
        return Rounded(on_device(device, replace(job, dtype="float64")), job.dtype)


def on_device(device: str, job: Job) -> Evaluator:
    """The evaluator of ``job`` in its dtype on a device that is there.

    Raises :class:`DoubleNeeded` where that takes float64.
    """
    if job.network.augment:
        from widegram.backends.augmented import Augmented

        # The dense one takes no short cut that others may take.
        return Augmented(job, partial(on_device, device), both=device == "reference")
    numbers = cuda_numbers(device)
    if numbers is not None:
        from widegram.cuda.device import gpus
        from widegram.cuda.evaluator import CudaEvaluator

        return CudaEvaluator(job, gpus(numbers))
    if device == "reference":
        from widegram.reference import ReferenceEvaluator

        # Somewhat more than the floor of variances.
        return ReferenceEvaluator(job, least=1e8 * FLOOR["float64"] ** 2)
    from widegram.cpu import CpuEvaluator

    return CpuEvaluator(job)
