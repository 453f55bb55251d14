"""Datasets: KinoShapes, the procedural videos this package tests and demonstrates itself with."""
