"""Evaluation: scoring rules and protocols of the papers, metrics, reports."""
