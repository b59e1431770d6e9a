"""`python -m mmd` is `mmd`."""

from mmd.cli.main import main

main()
