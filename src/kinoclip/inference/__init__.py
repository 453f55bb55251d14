"""Use: naming videos, explaining the answer, counting parameters and operations."""
