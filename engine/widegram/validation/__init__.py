"""What is checked before it is used: arrays, bounds of numbers, finiteness, text, names."""
