"""Scoring as the papers and their code do it."""
