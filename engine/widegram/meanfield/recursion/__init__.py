"""The recursion of a network through its layers, in deviations from what all inputs share."""
