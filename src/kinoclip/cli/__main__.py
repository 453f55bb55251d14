"""`python -m kinoclip.cli`."""

from kinoclip.cli import run

run()
