"""What every backend shares: the contract, the job, and the way from its numbers to kernels."""
