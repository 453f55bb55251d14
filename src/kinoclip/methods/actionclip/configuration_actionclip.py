"""The config and the processor of ActionCLIP."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from kinoclip.modeling.configuration import ClipRecognizerConfig, check_numbers
from kinoclip.modeling.processing import RecognizerProcessor
from kinoclip.text.templates import ACTIONCLIP_TEMPLATES


@strict
class ActionClipConfig(ClipRecognizerConfig):
    """The config of ActionCLIP.

    Args:
        temporal_head: how the frames are joined (the paper's post-network prompt): "mean" averages them (official
            `meanP`); "transformer" (`Transf`), "lstm" (`LSTM`) and "conv1d" (`Conv_1D`) add their output to the frames
            first; "transformer_cls" (`Transf_cls`) has a class token and positions for `num_frames` frames.
        temporal_layers: depth of either transformer.
        temporal_dropout: of "transformer_cls" in training; the others have none.
        transpose_conv1d: convolve over time. The official code reads the (T, D) numbers of a video as (D, T) without
            transposing them, and its weights were trained so.
        temporal_shift: "tsm" shifts an eighth of the channels of every patch to the frame before and an eighth to the
            frame after, at the input of each vision layer (official `tsm`, the paper's in-network prompt).
        freeze_text: keep the text tower as CLIP trained it (`fix_text`).
    """

    model_type = "kinoclip_actionclip"
    strict_settings: ClassVar[dict[str, Any]] = {"transpose_conv1d": True}

    # Architecture
    temporal_head: Literal["mean", "transformer", "transformer_cls", "lstm", "conv1d"] = "transformer"
    temporal_layers: int = 6
    temporal_dropout: float | int = 0.1
    transpose_conv1d: bool = False  # paper, sec. 3.3: True
    temporal_shift: Literal["none", "tsm"] | bool = "none"  # configs saved before 0.2 have a bool
    # Text
    freeze_text: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if isinstance(self.temporal_shift, bool):
            self.temporal_shift = "tsm" if self.temporal_shift else "none"
        super().__post_init__(**kwargs)

    @property
    def changed_layers(self) -> str | None:
        """Temporal shift, if it is on."""
        return None if self.temporal_shift == "none" else "temporal_shift"

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        check_numbers(self, "temporal_layers", at_least=1, advice='For no layers set temporal_head="mean".')
        check_numbers(self, "temporal_dropout", at_least=0, below=1)
        if self.temporal_head == "transformer_cls" and self.projection_dim % 8:
            raise ValueError(
                f'temporal_head="transformer_cls" has 8 attention heads, so projection_dim must be a multiple of 8, got '
                f"{self.projection_dim}. Choose another head or CLIP."
            )


class ActionClipProcessor(RecognizerProcessor):
    """Labels, each in 16 templates, and files to the inputs of ActionCLIP."""

    default_templates: ClassVar[tuple[str, ...]] = ACTIONCLIP_TEMPLATES
    default_sampling: ClassVar[str] = "segment_center"
