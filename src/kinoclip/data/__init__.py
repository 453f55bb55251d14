"""Data sets: loading, fair splits, leak checks, coverage, and samples for training and evaluation."""

from typing import TYPE_CHECKING

from kinoclip.data.catalog import DatasetFacts, catalog, dataset_facts
from kinoclip.lazy import lazy_names

if TYPE_CHECKING:
    from kinoclip.data.coverage import Coverage
    from kinoclip.data.files import MissingSplitError
    from kinoclip.data.load import load_videos

__all__ = ["Coverage", "DatasetFacts", "MissingSplitError", "catalog", "dataset_facts", "load_videos"]

# Finding files must not wait for torch.
__getattr__, __dir__ = lazy_names(
    __name__, {"Coverage": "coverage", "MissingSplitError": "files", "load_videos": "load"}
)
