"""One layer, and the limit of many: maps of an activation, fixed points, phases, predictions."""
