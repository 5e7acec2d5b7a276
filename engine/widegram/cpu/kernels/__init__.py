"""The lowest floor: plane kernels as LLVM IR, and their machine code."""
