"""What this machine and its user allow: memory, cores, interrupts, progress, the code cache."""
