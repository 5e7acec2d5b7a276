"""PTX taken apart and run on arrays."""
