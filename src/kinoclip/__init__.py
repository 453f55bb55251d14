"""Recognize actions in video with CLIP.

Importing the package makes its models known to Transformers: `AutoModel`, `AutoProcessor`, `AutoVideoProcessor`,
`AutoModelForVideoClassification` and two pipelines load them.
"""

import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from kinoclip.importing import without_collector

__version__ = "0.1.0"

if Path(sys.argv[0]).stem == "kinoclip" or sys.orig_argv[1:3] == ["-m", "kinoclip"]:
    # the command line: its help must not wait for torch, and a command imports what it needs

    def __getattr__(name: str) -> Any:
        try:
            return getattr(import_module("kinoclip.public"), name)
        except AttributeError:
            raise AttributeError(f"module 'kinoclip' has no attribute {name!r}") from None

else:
    with without_collector():
        from kinoclip.public import *  # noqa: F403
        from kinoclip.public import __all__ as __all__
