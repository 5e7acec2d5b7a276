"""What is measured and drawn: phase diagrams, sweeps over depth, training, the paper's table."""
