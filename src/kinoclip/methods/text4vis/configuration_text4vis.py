"""The config and the processor of Text4Vis."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict

from kinoclip.modeling.configuration import ClipRecognizerConfig, check_numbers
from kinoclip.modeling.processing import RecognizerProcessor
from kinoclip.text.templates import TEMPLATES


@strict
class Text4VisConfig(ClipRecognizerConfig):
    """The config of Text4Vis.

    Args:
        temporal_head: "transformer" applies self-attention over the frames before they are averaged (`Transf`); few-shot
            training uses "none".
        temporal_layers: depth of that transformer.
        temporal_shift: what moves between frames inside the vision tower: an eighth of the patches' channels in each
            direction ("tsm"; in a ResNet, of the pixels' channels); a quarter of the class token's ("token_shift"); or the
            output of a learned convolution over the class tokens ("token_t1d").
        joint_space_time: all patches of a video in one sequence, with an embedding of their frame; the output is one vector.
        resnet_layers: blocks in each of the four stages of a ResNet vision tower, [3, 4, 6, 3] in RN50; None is a ViT.
            `vision_config` then has the width of its last stage as `hidden_size`, no layers, and a patch size of 32.
        loss: "cross_entropy" over fixed classes (`train.py`), "symmetric_kl" inside a batch (`train_nce.py`).
        freeze_text: keep the text tower as CLIP trained it.
    """

    model_type = "kinoclip_text4vis"

    # Architecture
    temporal_head: Literal["transformer", "none"] = "transformer"
    temporal_layers: int = 6
    temporal_shift: Literal["none", "tsm", "token_shift", "token_t1d"] = "none"
    joint_space_time: bool = False
    resnet_layers: list[int] | None = None
    # Text
    freeze_text: bool = True
    # Loss
    loss: Literal["symmetric_kl", "cross_entropy"] = "cross_entropy"

    @property
    def changed_layers(self) -> str | None:
        """Temporal shift, joint attention or the ResNet, if one is on."""
        changes = {
            "temporal_shift": self.temporal_shift != "none",
            "joint_space_time": self.joint_space_time,
            "resnet_layers": self.resnet_layers is not None,
        }
        return next((name for name, made in changes.items() if made), None)

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        check_numbers(self, "temporal_layers", at_least=1, advice='For no layers set temporal_head="none".')
        if self.joint_space_time:
            for name, needed in (("temporal_head", "none"), ("temporal_shift", "none"), ("resnet_layers", None)):
                if getattr(self, name) != needed:
                    raise ValueError(
                        f"joint_space_time has one vector for all frames, so it needs {name}={needed!r}, got "
                        f"{getattr(self, name)!r}."
                    )
        if self.resnet_layers is None:
            return
        if len(self.resnet_layers) != 4 or min(self.resnet_layers) < 1:
            raise ValueError(
                f"resnet_layers must be four numbers of at least 1, such as [3, 4, 6, 3], got {self.resnet_layers}."
            )
        if self.temporal_shift not in ("none", "tsm"):
            raise ValueError(
                f'temporal_shift must be "tsm" or "none" with a ResNet, which has no class token, got "{self.temporal_shift}".'
            )
        vision = self.vision_config
        if (vision.num_hidden_layers, vision.patch_size) != (0, 32):
            raise ValueError(
                "resnet_layers needs a vision_config with num_hidden_layers=0 and patch_size=32, got that of a ViT. "
                "`Text4VisModel.from_clip` makes it from the file of a ResNet CLIP."
            )


class Text4VisProcessor(RecognizerProcessor):
    """Labels and files to the inputs of Text4Vis."""

    default_templates: ClassVar[tuple[str, ...]] = (TEMPLATES["text4vis"],)
    default_sampling: ClassVar[str] = "segment_start"
