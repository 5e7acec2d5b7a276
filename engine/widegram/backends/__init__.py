"""Who computes tiles: evaluators, and the choice of one by device."""
