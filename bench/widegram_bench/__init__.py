"""Benchmarks: the machine's roof, what the engine reaches of it, and other programs beside it."""
