"""Tables that others published, computed again by commands that anyone can repeat by hand."""
