"""``python -m nstx`` is the command ``nstx``."""

from nstx.cli import run_process

run_process()
