"""Workers of a Dask scheduler: they keep what they have opened, and answer requests."""
