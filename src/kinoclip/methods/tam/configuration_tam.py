"""The config and the processor of TAM."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from huggingface_hub.dataclasses import strict
from torch import Tensor
from transformers import ProcessorMixin
from transformers.image_utils import PILImageResampling
from transformers.utils.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from kinoclip.modeling.configuration import RecognizerConfig, check_numbers, check_settings
from kinoclip.modeling.processing import RecognizerProcessor
from kinoclip.modeling.video_processing import RecognizerVideoProcessor

# depth: blocks in each of the four stages
STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# the official checkpoints are of Kinetics-400
_NUM_LABELS = 400


@strict
class TamConfig(RecognizerConfig):
    """The config of TAM on a ResNet; its candidates are the rows of its classifier, named in `id2label`.

    Args:
        depth: 18 and 34 have basic blocks, 50, 101 and 152 bottlenecks.
        block: kind of the blocks; None is that of the depth.
        stage_blocks: blocks in each of the four stages; None are those of the depth.
        stage_widths: channels in each stage; a bottleneck returns four times as many.
        stem_width: channels before the first stage.
        blending_frames: how many neighboring frames are blended, half of them before the frame.
        blending: "sum" or "max" of the weighed neighbors.
        dense_blending: weigh with a full matrix between channels, not channel by channel.
        temporal_pooling: halve the number of frames after each of the first three stages by "max" or "avg" pooling.
        shortcut: the residual path where the shape changes: a "strided" convolution of the input (ResNet-TAM), or a "pooled"
            one of the blended frames (bLVNet-TAM).
        dropout: before the classifier, in training.
        image_size: height and width in pixels.
    """

    model_type = "kinoclip_tam"
    # Architecture
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
    # Loss
    loss: Literal["symmetric_kl", "cross_entropy"] = "cross_entropy"
    gather_features: bool = False  # the candidates are the same in all processes

    def __post_init__(self, **kwargs: Any) -> None:
        if self.id2label is None:
            kwargs.setdefault("num_labels", _NUM_LABELS)
        super().__post_init__(**kwargs)
        self.label2id = {name: number for number, name in self.id2label.items()}

    @property
    def expansion(self) -> int:
        """Output channels of a block over its inner channels: 4 for bottlenecks, 1 for basic blocks."""
        kind = self.block or ("basic" if self.depth < 50 else "bottleneck")
        return 4 if kind == "bottleneck" else 1

    @property
    def blocks_per_stage(self) -> list[int] | tuple[int, ...]:
        """Number of blocks in each of the four stages."""
        return self.stage_blocks or STAGES[self.depth]

    @property
    def frame_width(self) -> int:
        """D, the channels of the last stage."""
        return self.expansion * self.stage_widths[-1]

    @property
    def reads_text(self) -> bool:
        """False: candidates are the rows of the classifier."""
        return False

    @property
    def frame_size(self) -> int:
        """Height and width of the input frames, in pixels."""
        return self.image_size

    def validate_architecture(self) -> None:
        """Check fields against each other."""
        for name, value in (("stage_blocks", self.blocks_per_stage), ("stage_widths", self.stage_widths)):
            if len(value) != 4 or min(value) < 1:
                raise ValueError(f"{name} must be four numbers of at least 1, one per stage, got {value}.")
        check_numbers(self, "stem_width", "blending_frames", "image_size", at_least=1)
        check_numbers(self, "dropout", at_least=0, below=1)

    def to_diff_dict(self) -> dict[str, Any]:
        """Return what is saved, always with the labels, since the default number is that of Kinetics-400."""
        return {**super().to_diff_dict(), "id2label": self.id2label, "label2id": self.label2id}

    @classmethod
    def settings(cls) -> list[str]:
        """Return the names of the fields that a user may choose, and the number of labels."""
        return sorted({*super().settings(), "num_labels"})

    @classmethod
    def from_clip_fields(cls, clip: dict[str, Any], **settings: Any) -> Self:
        """Build the config; of a CLIP only the image size is used. See `RecognizerConfig.from_clip_fields`."""
        check_settings(cls, settings)
        given = dict(clip)
        towers = [given.pop(name, None) for name in ("vision_config", "text_config", "projection_dim")]
        if towers[0] is not None:
            given["image_size"] = towers[0]["image_size"]
        return cls(**{**given, **settings})


class TamProcessor(RecognizerProcessor):
    """Files to the inputs of TAM, which has no tokenizer."""

    default_sampling: ClassVar[str] = "segment_shared_offset"
    tokenizer = chinese = None

    def __init__(self, video_processor: RecognizerVideoProcessor):
        ProcessorMixin.__init__(self, video_processor)
        self.templates = []

    @classmethod
    def for_config(cls, config: Any, tokenizer: None = None, **options: Any) -> "TamProcessor":
        """Build the processor of a TAM; `tokenizer` must be None, and `options` are those of its video processor.

        Source of mean, deviation, size and interpolation: official validation transforms, as ImageNet's.
        """
        if tokenizer is not None:
            raise ValueError("TAM reads no text, so its processor takes no tokenizer. Leave it out.")
        imagenet = {"image_mean": IMAGENET_DEFAULT_MEAN, "image_std": IMAGENET_DEFAULT_STD}
        return cls(cls.build_videos(config, resample=PILImageResampling.BILINEAR, **imagenet, **options))

    def encode_attributes(self, attributes: Sequence[Sequence[str]]) -> Tensor:
        """Raise an error: TAM reads no attributes."""
        raise ValueError("TAM reads no text, so it has no attributes branch. Leave attributes out.")
