"""``python -m nstx`` is the command ``nstx``."""

from nstx.cli import main

main()
