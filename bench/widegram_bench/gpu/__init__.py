"""The CUDA backend on a card: what it is asked for, measured, and held against its bounds."""
