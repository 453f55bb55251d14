"""The one file of code a published folder carries, so that `trust_remote_code=True` works without `import kinoclip`."""

from __future__ import annotations

import os
from pathlib import Path

SHIM_NAME = "kinoclip_shim"
_SHIM = '''"""Loads this checkpoint with the package it was made by: pip install kinoclip."""
try:
    from kinoclip import {names}
except ImportError as error:
    raise ImportError("This checkpoint needs the package kinoclip: run `pip install kinoclip`.") from error
'''


def auto_map(**classes: str) -> dict[str, str]:
    """Give the `auto_map` entry that points each Auto class at the shim: `auto_map(AutoModel="BikeModel")`."""
    return {auto_class: f"{SHIM_NAME}.{name}" for auto_class, name in classes.items()}


def write_shim(folder: str | os.PathLike[str], names: set[str]) -> Path:
    """Write the shim into `folder`, with the names it already offered and `names`."""
    path = Path(folder) / f"{SHIM_NAME}.py"
    if path.exists():
        line = next((line for line in path.read_text().splitlines() if "from kinoclip import" in line), "")
        found = {name.strip() for name in line.partition("import ")[2].split(",")}
        names = names | {name for name in found if name.isidentifier()}  # the file may have been written by anyone
    path.write_text(_SHIM.format(names=", ".join(sorted(names))))
    return path
