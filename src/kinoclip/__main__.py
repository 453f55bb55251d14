"""`python -m kinoclip`."""

from kinoclip.cli import run

run()
