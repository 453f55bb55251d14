"""Export of recognizers to ONNX: `export_recognizer` writes a folder of graphs, `load_exported` loads it for a `Classifier`."""

from kinoclip.export.exported import ExportedRecognizer, load_exported
from kinoclip.export.writing import export_recognizer

__all__ = ["ExportedRecognizer", "export_recognizer", "load_exported"]
