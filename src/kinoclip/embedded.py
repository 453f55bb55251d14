"""The CLIP that comes with the package, which knows KinoShapes only: its name and its folder."""

from importlib.resources import files
from pathlib import Path

# what the embedded model is called wherever a model can be named
EMBEDDED = "mini"


def mini_clip_path() -> Path:
    """Give the folder of the embedded checkpoint, for `CLIPModel.from_pretrained` and `CLIPTokenizer.from_pretrained`."""
    return Path(str(files("kinoclip") / "data" / "mini_clip_weights"))
