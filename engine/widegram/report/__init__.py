"""A page on one run: a Gram file, and what was made of it, told from the files alone."""
