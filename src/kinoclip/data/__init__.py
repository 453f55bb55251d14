"""Data sets: loading what people have, fair splits, checks, and KinoShapes, procedural videos to test and demonstrate with."""

from .catalog import DatasetFacts, catalog, dataset_facts
from .coverage import Coverage
from .layouts import MissingSplitError
from .loading import load_videos

__all__ = ["Coverage", "DatasetFacts", "MissingSplitError", "catalog", "dataset_facts", "load_videos"]
