"""From a request to a Gram matrix: jobs, the order of tiles, results in memory and in files."""
