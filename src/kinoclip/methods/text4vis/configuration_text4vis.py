"""The config of Text4Vis."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from kinoclip.clip_recognizer_config import ClipRecognizerConfig


@strict
class Text4VisConfig(ClipRecognizerConfig):
    """The config of Text4Vis.

    Args:
        temporal_head: "transformer" lets the frames look at each other before they are averaged (`Transf`), "none" does
            not; few-shot training uses "none".
        temporal_layers: depth of that transformer.
        temporal_shift: what moves between frames inside the vision tower: nothing ("none"); an eighth of the patches'
            channels in either direction ("tsm"; in a ResNet, of the pixels' channels); a quarter of the class token's
            ("token_shift"); or what a learned convolution over the class tokens makes of them ("token_t1d").
        joint_space_time: all patches of a video in one sequence, with an embedding of their frame; one vector comes out.
        resnet_layers: blocks in each of the four stages of a ResNet vision tower, [3, 4, 6, 3] in RN50; None is a ViT.
            `vision_config` then holds the width of its last stage as `hidden_size`, no layers, and a patch size of 32.
        loss: "cross_entropy" over fixed classes (`train.py`), "symmetric_kl" inside a batch (`train_nce.py`).
        freeze_text: keep the text tower as CLIP trained it.
    """

    model_type = "kinoclip_text4vis"
    shim_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "Text4VisConfig",
        "AutoModel": "Text4VisModel",
        "AutoModelForVideoClassification": "Text4VisModel",
    }

    temporal_head: Literal["transformer", "none"] = "transformer"
    temporal_layers: int = 6
    temporal_shift: Literal["none", "tsm", "token_shift", "token_t1d"] = "none"
    joint_space_time: bool = False
    resnet_layers: list[int] | None = None
    loss: Literal["symmetric_kl", "cross_entropy"] = "cross_entropy"
    freeze_text: bool = True

    @property
    def changed_layers(self) -> str | None:
        """Name what makes the tower another one: shift, joint attention or a ResNet."""
        changes = {
            "temporal_shift": self.temporal_shift != "none",
            "joint_space_time": self.joint_space_time,
            "resnet_layers": self.resnet_layers is not None,
        }
        return next((name for name, made in changes.items() if made), None)

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        if self.temporal_layers < 1:
            raise ValueError(f'temporal_layers is {self.temporal_layers}. For no layers set temporal_head="none".')
        if self.joint_space_time:
            self._refuse_beside("joint_space_time", temporal_head="none", temporal_shift="none", resnet_layers=None)
        if self.resnet_layers is None:
            return
        if len(self.resnet_layers) != 4 or min(self.resnet_layers) < 1:
            raise ValueError(f"resnet_layers is {self.resnet_layers}. Give four numbers, such as [3, 4, 6, 3].")
        if self.temporal_shift not in ("none", "tsm"):
            raise ValueError(
                f'temporal_shift is "{self.temporal_shift}", but a ResNet has no class token. Use "tsm" or "none".'
            )
        vision = self.vision_config
        if (vision.num_hidden_layers, vision.patch_size) != (0, 32):
            raise ValueError(
                "resnet_layers is given with the vision_config of a ViT. A ResNet's has num_hidden_layers=0 and "
                "patch_size=32; `Text4VisModel.from_clip` makes it from a ResNet CLIP's file."
            )

    def _refuse_beside(self, name: str, **needed: Any) -> None:
        for other, value in needed.items():
            if getattr(self, other) != value:
                raise ValueError(
                    f"{name} leaves no frames apart, so it needs {other}={value!r}, not {getattr(self, other)!r}."
                )
