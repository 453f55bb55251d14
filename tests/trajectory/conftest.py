"""Recordings of official runs."""

from parity.conftest import load_golden  # noqa: F401  (the fixture)
