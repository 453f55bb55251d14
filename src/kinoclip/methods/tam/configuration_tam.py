"""The config of TAM."""

from typing import Any, ClassVar, Literal, Self

from huggingface_hub.dataclasses import strict

from kinoclip.recognizer_config import RecognizerConfig, check_settings

# depth: blocks in each of the four stages
STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# the official checkpoints are of Kinetics-400
_NUM_LABELS = 400


@strict
class TamConfig(RecognizerConfig):
    """The config of TAM on a ResNet; its candidates are the rows of its classifier, named in `id2label`.

    Args:
        depth: 18 and 34 have basic blocks, 50, 101 and 152 bottlenecks.
        block: kind of the blocks, where it is not that of the depth.
        stage_blocks: blocks in each of the four stages, where they are not those of the depth.
        stage_widths: channels in each stage; a bottleneck gives four times as many.
        stem_width: channels before the first stage.
        blending_frames: how many neighboring frames are blended, half of them before the frame.
        blending: "sum" or "max" of the weighed neighbors.
        dense_blending: weigh with a full matrix between channels, not channel by channel.
        temporal_pooling: halve the number of frames after each of the first three stages, or not ("none").
        shortcut: what a block of another shape adds: a "strided" convolution of its input (ResNet-TAM), or a "pooled" one of
            the blended frames (bLVNet-TAM).
        dropout: before the classifier, in training.
        image_size: pixels on a side.
    """

    model_type = "kinoclip_tam"
    shim_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "TamConfig",
        "AutoModel": "TamModel",
        "AutoModelForVideoClassification": "TamModel",
    }

    depth: Literal[18, 34, 50, 101, 152] = 50
    block: Literal["basic", "bottleneck"] | None = None
    stage_blocks: list[int] | tuple[int, ...] | None = None
    stage_widths: list[int] | tuple[int, ...] = (64, 128, 256, 512)
    stem_width: int = 64
    blending_frames: int = 3
    blending: Literal["sum", "max"] = "sum"
    dense_blending: bool = False
    temporal_pooling: Literal["none", "max", "avg"] = "none"
    shortcut: Literal["strided", "pooled"] = "strided"
    dropout: float | int = 0.5
    image_size: int = 224
    loss: Literal["symmetric_kl", "cross_entropy"] = "cross_entropy"
    # the candidates are the same in all processes
    gather_features: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        if self.id2label is None:
            kwargs.setdefault("num_labels", _NUM_LABELS)
        super().__post_init__(**kwargs)
        self.label2id = {name: number for number, name in self.id2label.items()}

    @property
    def expansion(self) -> int:
        """How many times the channels inside of a block come out of it: 4 for bottlenecks, 1 for basic blocks."""
        kind = self.block or ("basic" if self.depth < 50 else "bottleneck")
        return 4 if kind == "bottleneck" else 1

    @property
    def blocks_per_stage(self) -> list[int] | tuple[int, ...]:
        """How many blocks each of the four stages has."""
        return self.stage_blocks or STAGES[self.depth]

    @property
    def frame_width(self) -> int:
        """D, the channels of the last stage."""
        return self.expansion * self.stage_widths[-1]

    @property
    def reads_text(self) -> bool:
        """It does not."""
        return False

    @property
    def frame_size(self) -> int:
        """Pixels on a side of the frames that go in."""
        return self.image_size

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        for name, value in (("stage_blocks", self.blocks_per_stage), ("stage_widths", self.stage_widths)):
            if len(value) != 4 or min(value) < 1:
                raise ValueError(f"{name} is {value}. Give a number of at least 1 for each of the four stages.")
        for name in ("stem_width", "blending_frames", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}. It is at least 1.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}. It is a share of the features, from 0 to below 1.")

    def to_diff_dict(self) -> dict[str, Any]:
        """Give what is saved: the labels always, since without them there would be as many as Kinetics-400 has."""
        return {**super().to_diff_dict(), "id2label": self.id2label, "label2id": self.label2id}

    @classmethod
    def settings(cls) -> list[str]:
        """Name the fields that a user may choose, and the number of labels."""
        return sorted({*super().settings(), "num_labels"})

    @classmethod
    def from_clip_fields(cls, clip: dict[str, Any], **settings: Any) -> Self:
        """Give the config; of a CLIP only the image size is used, and of the fields of a TAM all.

        Raises:
            ValueError: something is no setting of this config, or has a value that is not allowed.
        """
        check_settings(cls, settings)
        given = dict(clip)
        towers = [given.pop(name, None) for name in ("vision_config", "text_config", "projection_dim")]
        if towers[0] is not None:
            given["image_size"] = towers[0]["image_size"]
        return cls(**{**given, **settings})
