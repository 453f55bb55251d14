"""The config of ActionCLIP."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from kinoclip.clip_recognizer_config import ClipRecognizerConfig


@strict
class ActionClipConfig(ClipRecognizerConfig):
    """The config of ActionCLIP.

    Args:
        temporal_head: what joins the frames (the paper's visual prompt after the network): "mean" averages them
            (official `meanP`), "transformer" (`Transf`), "lstm" (`LSTM`) and "conv1d" (`Conv_1D`) average what they add
            to the frames, "transformer_cls" (`Transf_cls`) takes a class token and knows `num_frames` positions.
        temporal_layers: depth of either transformer.
        temporal_dropout: of "transformer_cls" in training; the others have none.
        transpose_conv1d: convolve over time. The official code reads the (T, D) numbers of a video as (D, T) without
            transposing them, and its weights were trained so.
        temporal_shift: shift an eighth of the channels of every patch to the frame before and an eighth to the frame
            after, at the input of each vision layer (official `tsm`, the visual prompt inside the network).
        freeze_text: keep the text tower as CLIP trained it (`fix_text`).
    """

    model_type = "kinoclip_actionclip"
    shim_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "ActionClipConfig",
        "AutoModel": "ActionClipModel",
        "AutoModelForVideoClassification": "ActionClipModel",
    }
    strict_settings: ClassVar[dict[str, Any]] = {"transpose_conv1d": True}

    temporal_head: Literal["mean", "transformer", "transformer_cls", "lstm", "conv1d"] = "transformer"
    temporal_layers: int = 6
    temporal_dropout: float | int = 0.1
    transpose_conv1d: bool = False
    temporal_shift: bool = False
    freeze_text: bool = False

    @property
    def changed_layers(self) -> str | None:
        """Name temporal shift, where it is on."""
        return "temporal_shift" if self.temporal_shift else None

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        if self.temporal_layers < 1:
            raise ValueError(f'temporal_layers is {self.temporal_layers}. For no layers set temporal_head="mean".')
        if not 0 <= self.temporal_dropout < 1:
            raise ValueError(f"temporal_dropout is {self.temporal_dropout}. It is a share: at least 0 and below 1.")
        if self.temporal_head == "transformer_cls" and self.projection_dim % 8:
            raise ValueError(
                f'temporal_head="transformer_cls" has 8 attention heads, but projection_dim is {self.projection_dim}. '
                "Choose another head, or a CLIP whose projection_dim is a multiple of 8."
            )
