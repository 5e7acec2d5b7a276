"""``python -m widegram_cli``."""

from widegram_cli.start import main

main()
