"""The one file of code in a published folder; with it `trust_remote_code=True` works without `import kinoclip`."""

import os
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from transformers import initialization as init

SHIM_NAME = "kinoclip_shim"
_SHIM = '''"""Loads this checkpoint with the package it was made by: pip install kinoclip."""
try:
    from kinoclip import {names}
except ImportError as error:
    raise ImportError("This checkpoint needs the package kinoclip: run `pip install kinoclip`.") from error
'''


class OwnCodeMixin:
    """Make Transformers initialize all modules of a model by `_init_weights`, and older releases like newer ones.

    Of what it calls custom code it leaves out those without parameters of their own, such as CLIP's attention. That guards loaded weights
    against in-place changes, and here `transformers.initialization` does.
    """

    if not hasattr(PreTrainedModel, "activation_checkpointing_enable"):  # its older name
        activation_checkpointing_enable = PreTrainedModel.gradient_checkpointing_enable

    @classmethod
    def is_custom_code(cls) -> bool:
        """Return False."""
        return False

    def _init_weights(self: Any, module: Any) -> None:
        # CLIP's own rule needs both projections before Transformers 5.16
        if module is self and getattr(self, "text_projection", self) is None:
            deviation = module.vision_embed_dim**-0.5 * module.config.initializer_factor
            init.normal_(module.visual_projection.weight, std=deviation)
        else:
            super()._init_weights(module)


class ShimMixin:
    """Keep Transformers from copying files of this package into a saved folder; the folder carries the shim."""

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "") -> None:
        """Do nothing; Transformers calls it for code that it loads from a folder."""


def auto_map(**classes: str) -> dict[str, str]:
    """Return the `auto_map` entry that points each Auto class at the shim: `auto_map(AutoModel="BikeModel")`."""
    return {auto_class: f"{SHIM_NAME}.{name}" for auto_class, name in classes.items()}


def write_shim(folder: str | os.PathLike[str], names: set[str]) -> Path:
    """Write the shim into a folder, which is created if it does not exist, with `names` and those it already offers."""
    path = Path(folder) / f"{SHIM_NAME}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        line = next(
            (line for line in path.read_text(encoding="utf-8").splitlines() if "from kinoclip import" in line), ""
        )
        offered = {name.strip() for name in line.partition("import ")[2].split(",")}
        names = names | {name for name in offered if name.isidentifier()}  # the file may have been written by anyone
    path.write_text(_SHIM.format(names=", ".join(sorted(names))))
    return path
