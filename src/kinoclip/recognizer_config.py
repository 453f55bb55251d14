"""What every recognizer's config holds, and which of its fields are a user's to set."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from transformers import PreTrainedConfig

from kinoclip.shim import auto_map, write_shim


@strict
class RecognizerConfig(PreTrainedConfig):
    """What every recognizer's config holds.

    Args:
        num_frames: T, the number of frames the weights were trained with; any other number works too.
        candidate_shapes: name of a text feature to its shape, for a checkpoint that carries its own candidates.
        fusion: name of a branch to its weight in the answer, for methods with several branches.
        fusion_rule: the answer is the weighted mean of the branches' "probabilities" or of their "scores".
        loss: what `forward` computes when it is given labels.
        gather_features: compare with the rows of all processes when several train together.

    Attributes:
        strict_settings: the fields that make a method what its paper's text says, where the default is what made the
            published numbers or what this package chose.
    """

    num_frames: int = 8
    candidate_shapes: dict[str, list[int]] | None = None
    fusion: dict[str, float | int] | None = None
    fusion_rule: Literal["probabilities", "scores"] = "probabilities"
    loss: Literal["symmetric_kl", "cross_entropy"] = "symmetric_kl"
    gather_features: bool = True
    initializer_range: float | int = 0.02

    shim_classes: ClassVar[dict[str, str]] = {}
    strict_settings: ClassVar[dict[str, Any]] = {}

    def validate_answer(self) -> None:
        """Check the numbers that the answer is made with."""
        if self.num_frames < 1:
            raise ValueError(f"num_frames is {self.num_frames}. A video has at least one frame.")
        weights = list((self.fusion or {"video": 1}).values())
        if min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(f"fusion is {self.fusion}. Weights are shares: not below 0, and not all 0.")

    @classmethod
    def settings(cls) -> list[str]:
        """Name the fields that a user may choose: not the towers, the candidates, or what every config has."""
        hidden = {field.name for field in fields(PreTrainedConfig)} | {"candidate_shapes"} | set(cls.sub_configs)
        return sorted({field.name for field in fields(cls)} - hidden)

    @property
    def reads_text(self) -> bool:
        """Whether candidates are texts; otherwise they are the rows of the model's classifier."""
        return True

    @property
    def frame_size(self) -> int:
        """Pixels on a side of the frames that go in."""
        size: int = self.vision_config.image_size
        return size

    def encoded_frames(self, num_frames: int) -> int:
        """Give how many of the frames that are sampled are decoded and encoded."""
        return num_frames

    @classmethod
    def from_clip_fields(cls, clip: dict[str, Any], **settings: Any) -> Self:
        """Give the config on the towers that the fields of a CLIP describe.

        Raises:
            ValueError: something is no setting of this config, or has a value that is not allowed.
        """
        check_settings(cls, settings)
        return cls(**{**clip, **settings})

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], push_to_hub: bool = False, **kwargs: Any
    ) -> None:
        """Save the config, and beside it the shim that its `auto_map` names."""
        if self.shim_classes:
            self.auto_map = auto_map(**self.shim_classes)
            Path(save_directory).mkdir(parents=True, exist_ok=True)
            write_shim(save_directory, set(self.shim_classes.values()))
        super().save_pretrained(save_directory, push_to_hub=push_to_hub, **kwargs)

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Do nothing: a published folder carries the shim, never copies of this package's files."""


def check_settings(
    config_class: type[RecognizerConfig], settings: Mapping[str, Any], also: Iterable[str] = ()
) -> None:
    """Make sure that settings belong to a config, or are among `also`, and that each value is allowed.

    Raises:
        ValueError: one does not, or is not; the message names what is allowed.
    """
    own = config_class.settings()
    probe = config_class()
    for name, value in settings.items():
        if name not in own and name not in also:
            known = ", ".join(sorted({*own, *also}))
            raise ValueError(f"{name!r} is no setting of {config_class.__name__}. Settings: {known}.")
        try:
            if name in own:
                setattr(probe, name, value)
        except StrictDataclassError as error:
            raise ValueError(f"{config_class.__name__}: {str(error).partition(': ')[2]}.") from error
