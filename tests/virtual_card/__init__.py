"""A card made of software: PTX executed by NumPy behind a stub of NVIDIA's driver library."""
