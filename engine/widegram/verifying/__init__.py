"""Looking for damage in any file of this program, and computing damaged tiles again."""
