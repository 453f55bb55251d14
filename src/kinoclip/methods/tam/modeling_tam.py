"""TAM: More Is Less: Learning Efficient Video Representations by Big-Little Network and Depthwise Temporal Aggregation.

Quanfu Fan, Chun-Fu (Richard) Chen, Hilde Kuehne, Marco Pistoia, David Cox; NeurIPS 2019; https://arxiv.org/abs/1912.00869.

A ResNet in which every block first blends each frame with its neighbors, channel by channel with learned weights (the temporal
aggregation module). It has no CLIP and reads no text: the rows of its classifier are its candidates. This is the ResNet-TAM of
IBM's `action-recognition-pytorch`, one of the recognizers that SLLM is built on.

Differences from the official code
- The number of frames is that of the video, not fixed when the model is built; temporal pooling takes any number of them.
- The classifier reads the mean of the frames, where the code averages the logits of the frames; both are the same sum.
- A block's neighbors are the list `tam.taps`, earliest first; the code has `prev_se`, `curr_se`, `next_se` for three frames.
- Of bLVNet-TAM the module and the block are implemented (`shortcut="pooled"`), the big-little network is not.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init

from kinoclip.methods.tam.configuration_tam import TamConfig
from kinoclip.modeling.layers.text_features import apply_rows, classifier_rows, read_rows
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures
from kinoclip.modeling.recognizer import VideoRecognizer, check_candidates


class TemporalAggregation(nn.Module):
    """Blend each frame with its neighbors; frames outside of the video are zero.

    Source: official `models/temporal_modeling.py`, TAM.
    """

    def __init__(self, config: TamConfig, width: int):
        super().__init__()
        self.blend = torch.add if config.blending == "sum" else torch.maximum
        groups = 1 if config.dense_blending else width
        self.taps = nn.ModuleList(
            nn.Conv2d(width, width, 1, groups=groups, bias=False) for _ in range(config.blending_frames)
        )

    def forward(self, frames: Tensor, num_frames: int) -> Tensor:
        """Blend (B * T, C, H, W), the frames of each video in succession."""
        first = -(len(self.taps) // 2)
        neighbors = [
            shift_frames(tap(frames).unflatten(0, (-1, num_frames)), first + number)
            for number, tap in enumerate(self.taps)
        ]
        return reduce(self.blend, neighbors).relu().flatten(0, 1)


def shift_frames(frames: Tensor, offset: int) -> Tensor:
    """Shift (B, T, C, H, W) in time: the frame at t becomes that at t + `offset`, or zeros outside of the video."""
    offset = max(-frames.shape[1], min(offset, frames.shape[1]))
    return functional.pad(frames, (0, 0, 0, 0, 0, 0, -offset, offset))


def pool_time(frames: Tensor, kind: str) -> Tensor:
    """Pool three neighboring frames of (B, T, C, H, W) around every second one by "max" or "avg": (B, ceil(T / 2), C, H, W).

    Frames are not negative. Frames outside of the video are zero and count in the average.
    """
    windows = functional.pad(frames, (0, 0, 0, 0, 0, 0, 1, 1)).unfold(1, 3, 2)
    return windows.amax(-1) if kind == "max" else windows.mean(-1)


class TamBlock(nn.Module):
    """A block of a ResNet (torchvision's names) whose residual branch begins with temporal aggregation."""

    def __init__(self, config: TamConfig, in_width: int, width: int, stride: int):
        super().__init__()
        self.tam = TemporalAggregation(config, in_width)
        self.shortcut_is_blended = config.shortcut == "pooled"
        out_width = config.expansion * width
        if config.expansion == 1:
            layers = [(in_width, width, 3, stride), (width, width, 3, 1)]
        else:
            layers = [(in_width, width, 1, 1), (width, width, 3, stride), (width, out_width, 1, 1)]
        for number, (before, after, side, step) in enumerate(layers, 1):
            self.add_module(f"conv{number}", nn.Conv2d(before, after, side, step, side // 2, bias=False))
            self.add_module(f"bn{number}", nn.BatchNorm2d(after))
        self.num_layers = len(layers)
        self.downsample = None
        if stride != 1 or in_width != out_width:
            pools = self.shortcut_is_blended and stride != 1
            conv = nn.Conv2d(in_width, out_width, 1, 1 if pools else stride, bias=False)
            pool = [nn.AvgPool2d(3, stride, 1)] if pools else []
            self.downsample = nn.Sequential(*pool, conv, nn.BatchNorm2d(out_width))

    def forward(self, frames: Tensor, num_frames: int) -> Tensor:
        """Encode (B * T, C, H, W): (B * T, C', H', W')."""
        residual = blended = self.tam(frames, num_frames)
        for number in range(1, self.num_layers + 1):
            residual = self.get_submodule(f"bn{number}")(self.get_submodule(f"conv{number}")(residual))
            if number < self.num_layers:
                residual = residual.relu()
        if self.downsample is not None:
            frames = self.downsample(blended if self.shortcut_is_blended else frames)
        return (frames + residual).relu()


class TamModel(VideoRecognizer):
    """TAM on a ResNet."""

    config: TamConfig
    input_modalities = ("video",)
    _no_split_modules = ["TamBlock"]

    def __init__(self, config: TamConfig):
        super().__init__(config)
        self.conv1 = nn.Conv2d(3, config.stem_width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(config.stem_width)
        self.layer1, self.layer2, self.layer3, self.layer4 = _build_stages(config)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(config.frame_width, config.num_labels)
        self.post_init()

    @property
    def frame_width(self) -> int:
        """D, the channels of the last stage."""
        return self.config.frame_width

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame together with its neighbors: (B, T, 3, H, W) -> embeds (B, T', D).

        T' is T, or an eighth of it, rounded up, with temporal pooling.
        """
        num_videos, num_frames = pixel_values_videos.shape[:2]
        pixels = pixel_values_videos.flatten(0, 1).to(self.conv1.weight.dtype)
        frames = self.bn1(self.conv1(pixels)).relu()
        frames = functional.max_pool2d(frames, 3, 2, 1)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                frames = block(frames, num_frames)
            if self.config.temporal_pooling != "none" and stage is not self.layer4:
                pooled = pool_time(frames.unflatten(0, (num_videos, num_frames)), self.config.temporal_pooling)
                frames, num_frames = pooled.flatten(0, 1), pooled.shape[1]
        return FrameFeatures(embeds=frames.mean((2, 3)).unflatten(0, (num_videos, num_frames)))

    def candidates(self) -> TextFeatures:
        """Return the rows of the classifier (1, K, D), and its bias as the branch "bias" (1, K, 1)."""
        return classifier_rows(self.fc)

    def set_candidates(self, names: Sequence[str], text: TextFeatures) -> Self:
        """Replace the rows of the classifier; `model.set_candidates(names, model.candidates())` renames them."""
        check_candidates(names, text)
        weight, bias = read_rows(text)
        self.fc = nn.Linear(weight.shape[1], len(names), device=weight.device, dtype=weight.dtype)
        self.fc.load_state_dict({"weight": weight, "bias": bias})
        self.config.id2label = dict(enumerate(names))
        self.config.label2id = {name: i for i, name in enumerate(names)}
        return self

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Average the frames: (B, D)."""
        return self.dropout(frames.embeds).mean(1)

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Apply the classifier: (B, K)."""
        return apply_rows(video, text)

    def scale_votes(self, votes: dict[str, Tensor], video: Tensor | None, text: TextFeatures) -> dict[str, Tensor]:
        """Return the scores, which are logits."""
        return votes

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def _build_stages(config: TamConfig) -> list[nn.ModuleList]:
    stages, width = [], config.stem_width
    for number, (count, inner) in enumerate(zip(config.blocks_per_stage, config.stage_widths, strict=True)):
        stage = nn.ModuleList()
        for position in range(count):
            stage.append(TamBlock(config, width, inner, 2 if number and not position else 1))
            width = config.expansion * inner
        stages.append(stage)
    return stages
