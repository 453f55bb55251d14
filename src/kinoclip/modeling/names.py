"""Names of models: folders, hub ids and the embedded one; and of what computes them."""

from pathlib import Path
from typing import Literal

# the model of functions and commands that are given none
DEFAULT = "openai/clip-vit-base-patch32"
# names of the models in the package: a CLIP that knows colored shapes, and a recognizer of the actions of drawn people
EMBEDDED, EMBEDDED_RECOGNIZER = "mini", "mini-actions"

Backend = Literal["torch", "onnxruntime", "onnxruntime-int8", "openvino", "openvino-int8"]


def check_model_name(source: str) -> None:
    """Raise a `FileNotFoundError` or a `ValueError` if a name is neither a folder, a hub id nor in the package."""
    path = Path(source)
    if path.is_file():
        raise ValueError(
            f"{source} is a file. A model is a folder or a hub id; turn an official checkpoint into one with "
            "`kinoclip convert METHOD CHECKPOINT --output DIR`."
        )
    if path.exists() or source in (EMBEDDED, EMBEDDED_RECOGNIZER):
        return
    if path.is_absolute() or source.startswith(".") or source.count("/") > 1:
        raise FileNotFoundError(f"The model folder {source} does not exist.")
    if "/" not in source:
        raise ValueError(f"{source!r} is neither a folder nor a hub id such as 'org/bike-vitl14'. Check the name.")
