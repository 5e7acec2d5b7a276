"""``python -m widegram_cli``."""

from widegram_cli.main import main

main()
