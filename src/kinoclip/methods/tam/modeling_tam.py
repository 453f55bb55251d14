"""TAM: More Is Less: Learning Efficient Video Representations by Big-Little Network and Depthwise Temporal Aggregation.

Quanfu Fan, Chun-Fu (Richard) Chen, Hilde Kuehne, Marco Pistoia, David Cox; NeurIPS 2019; https://arxiv.org/abs/1912.00869.

A ResNet whose every block first blends each frame with its neighbors, channel by channel with learned weights (the temporal
aggregation module). It has no CLIP and reads no text: the rows of its classifier are its candidates. This is the ResNet-TAM of
IBM's `action-recognition-pytorch`, one of the recognizers that SLLM is built on.

Differences from the official code
- The number of frames is that of the video, not fixed when the model is built; temporal pooling takes any number of them.
- The classifier reads the mean of the frames, where the code averages the logits of the frames; both are the same sum.
- A block's neighbors are the list `tam.taps`, earliest first; the code has `prev_se`, `curr_se`, `next_se` for three frames.
- Of bLVNet-TAM the module and the block are here (`shortcut="pooled"`), the big-little network is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import initialization as init

from kinoclip.outputs import FrameFeatures, TextFeatures
from kinoclip.recognizer import VideoRecognizer, check_candidates

from .configuration_tam import TamConfig


class TemporalAggregation(nn.Module):
    """Blend each frame with its neighbors; what lies outside of the video counts as zero.

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
        """Blend (B * T, C, H, W), the frames of a video one behind another."""
        first = -(len(self.taps) // 2)
        neighbors = [
            shift_frames(tap(frames).unflatten(0, (-1, num_frames)), first + number)
            for number, tap in enumerate(self.taps)
        ]
        return reduce(self.blend, neighbors).relu().flatten(0, 1)


def shift_frames(frames: Tensor, offset: int) -> Tensor:
    """Put at each place of (B, T, C, H, W) the frame that is `offset` later, and zeros where there is none."""
    offset = max(-frames.shape[1], min(offset, frames.shape[1]))
    return functional.pad(frames, (0, 0, 0, 0, 0, 0, -offset, offset))


def pool_time(frames: Tensor, kind: str) -> Tensor:
    """Take the "max" or "avg" of three neighboring frames around every second one.

    Args:
        frames: (B, T, C, H, W), not negative. Outside of the video are zeros, which count in the average.
        kind: "max" or "avg".

    Returns:
        (B, ceil(T / 2), C, H, W).
    """
    windows = functional.pad(frames, (0, 0, 0, 0, 0, 0, 1, 1)).unfold(1, 3, 2)
    return windows.amax(-1) if kind == "max" else windows.mean(-1)


class TamBlock(nn.Module):
    """A block of a ResNet (torchvision's names) whose residual branch begins with temporal aggregation.

    Args:
        config: of the model.
        in_width: channels that come in.
        width: channels inside.
        stride: of the first 3 x 3 convolution.
    """

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
        """Give (B * T, C', H', W') for (B * T, C, H, W)."""
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
    config_class = TamConfig
    input_modalities = ("video",)
    # without attention, every implementation of it does
    _supports_sdpa = True
    _supports_attention_backend = True
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

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        word_mask: Tensor | None = None,
        **inputs: Tensor,
    ) -> TextFeatures:
        """Refuse text.

        Raises:
            ValueError: always.
        """
        raise ValueError("TAM reads no text: the rows of its classifier are its candidates. Leave input_ids out.")

    def candidates(self) -> TextFeatures:
        """Give the rows of the classifier (1, K, D), and its bias as the branch "bias" (1, K, 1)."""
        return TextFeatures(embeds=self.fc.weight[None], branches={"bias": self.fc.bias[None, :, None]})

    def set_candidates(self, names: Sequence[str], text: TextFeatures) -> Self:
        """Make candidates the rows of the classifier: `model.set_candidates(names, model.candidates())` names those it has.

        Raises:
            ValueError: names and rows differ in number, or a name comes twice.
        """
        check_candidates(names, text)
        weight, bias = _read_rows(text)
        self.fc = nn.Linear(weight.shape[1], len(names), device=weight.device, dtype=weight.dtype)
        self.fc.load_state_dict({"weight": weight, "bias": bias})
        self.config.id2label = dict(enumerate(names))
        self.config.label2id = {name: i for i, name in enumerate(names)}
        return self

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Average the frames: (B, D)."""
        return self.dropout(frames.embeds).mean(1)

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Classify: (B, K)."""
        return functional.linear(video, *_read_rows(text))

    def scales(self) -> dict[str, Tensor]:
        """Leave the scores as they are: they are logits."""
        return {"video": self.fc.weight.new_ones(())}

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


def _read_rows(text: TextFeatures) -> tuple[Tensor, Tensor]:
    """Give weight (K, D) and bias (K,) of the classifier that candidates describe."""
    if text.branches is None or "bias" not in text.branches:
        raise ValueError("These text_features lack the bias of the classifier. Take them from `candidates()`.")
    return text.embeds.mean(0), text.branches["bias"].mean(0)[:, 0]
