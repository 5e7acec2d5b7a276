"""Processors that plane kernels are compiled for: this machine's, or any other that LLVM knows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from llvmlite import binding

_OPTIMISE = 3
_FUSING = ("fma", "avx512f")
_WITHOUT_REGISTERS = 16, 16


@dataclass(frozen=True)
class Processor:
    """A target of LLVM: ``triple``, ``cpu``, and ``features`` such as '+avx2,-fma'.

    What a kernel's form depends on is looked up in ``features``, also where ``cpu`` implies it.
    """

    triple: str
    cpu: str
    features: str

    def has(self, feature: str) -> bool:
        """Whether a feature is among those that are named."""
        return f"+{feature}" in self.features.split(",")

    @property
    def architecture(self) -> str:
        """The first part of the triple, such as 'x86_64' or 'aarch64'."""
        return self.triple.partition("-")[0]

    @property
    def registers(self) -> tuple[int, int]:
        """How many vector registers there are, and the bytes of one."""
        if self.architecture == "aarch64":
            return 32, 16
        if self.has("avx512f"):
            return 32, 64
        return (16, 32) if self.has("avx") else _WITHOUT_REGISTERS

    @property
    def fuses(self) -> bool:
        """Whether it multiplies and adds in one instruction; elsewhere LLVM would call the C
        library for each lane."""
        return self.architecture == "aarch64" or any(map(self.has, _FUSING))


@cache
def host() -> Processor:
    """This machine's."""
    triple, features = binding.get_default_triple(), binding.get_host_cpu_features()
    return Processor(triple, binding.get_host_cpu_name(), features.flatten())


def without(processor: Processor, feature: str) -> Processor:
    """The same with a feature, and what needs it, not used."""
    words = [w for w in processor.features.split(",") if not w[1:].startswith(feature[:6])]
    return replace(processor, features=",".join([*words, f"-{feature}"]))


@cache
def machine(processor: Processor) -> Any:
    """LLVM's target machine, for code that runs in the process that makes it."""
    if processor == host():
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
    else:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
    return binding.Target.from_triple(processor.triple).create_target_machine(
        cpu=processor.cpu, features=processor.features, opt=_OPTIMISE, jit=True
    )


def optimised(text: str, entry: str, name: str, processor: Processor) -> Any:
    """An IR module for a processor; its function ``entry`` becomes ``name``, all else internal."""
    target = machine(processor)
    module = binding.parse_assembly(text)
    module.triple, module.data_layout = target.triple, str(target.target_data)
    function = module.get_function(entry)
    for other in (*module.functions, *module.global_variables):
        if not other.is_declaration:
            other.linkage = "external" if other.name == entry else "internal"
    function.name = name
    passes = binding.create_pass_builder(
        target, binding.create_pipeline_tuning_options(speed_level=_OPTIMISE)
    )
    passes.getModulePassManager().run(module, passes)
    return module
