"""The config and the processor of X-CLIP."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict

from kinoclip.modeling.configuration import ClipRecognizerConfig, check_numbers
from kinoclip.modeling.processing import RecognizerProcessor


@strict
class XclipConfig(ClipRecognizerConfig):
    """The config of X-CLIP without video-specific prompts.

    Args:
        cross_frame: "attention" lets a message token of each frame attend to those of the other frames in every layer of the
            vision tower; "none" keeps CLIP's layers.
        temporal_head: "transformer" integrates the frames (MIT); "none" averages them.
        temporal_layers: depth of that transformer.
        freeze_text: keep the text tower as CLIP trained it.
    """

    model_type = "kinoclip_xclip"

    # Architecture
    cross_frame: Literal["attention", "none"] = "attention"
    temporal_head: Literal["transformer", "none"] = "transformer"
    temporal_layers: int = 1
    # Text
    freeze_text: bool = False
    # Loss
    loss: Literal["symmetric_kl", "cross_entropy"] = "cross_entropy"

    @property
    def changed_layers(self) -> str | None:
        """Cross-frame attention, if it is on."""
        return None if self.cross_frame == "none" else "cross_frame"

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        check_numbers(self, "temporal_layers", at_least=1, advice='For no layers set temporal_head="none".')
        if self.projection_dim % 64 and self.projection_dim > 64:
            raise ValueError(
                f"Heads are 64 wide, so projection_dim must be a multiple of 64, got {self.projection_dim}. Choose another CLIP."
            )


class XclipProcessor(RecognizerProcessor):
    """Labels, as they are, and files to the inputs of X-CLIP."""

    default_templates: ClassVar[tuple[str, ...]] = ("{}",)
    default_sampling: ClassVar[str] = "segment_center"
