"""Recognizers as graphs, for other runtimes: written, compared with the model they came from, and run here.

`export_recognizer` writes a folder, `load_exported` gives what a `Classifier` takes.
"""

from .exported import ExportedRecognizer, load_exported
from .writing import export_recognizer

__all__ = ["ExportedRecognizer", "export_recognizer", "load_exported"]
