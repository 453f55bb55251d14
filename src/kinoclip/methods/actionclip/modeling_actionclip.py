"""ActionCLIP: A New Paradigm for Video Action Recognition.

Mengmeng Wang, Jiazheng Xing, Yong Liu; 2021; https://arxiv.org/abs/2109.08472.

A video is matched with sentences about its action instead of numbered classes. CLIP encodes each frame, a temporal head
joins the frames to one vector, and the probabilities under 16 templates are averaged.

Differences from the official code
- Logits are multiplied by `exp(logit_scale)` at test time too. The official test multiplies the cosines by 100, whatever
  scale was learned: the rule "actionclip" in `kinoclip.evaluation.scoring`.
- Logits of several templates are the log of their mean probability; those of one template are its scaled cosines.
- `transformer_cls` takes videos of fewer frames than it has positions for; the official code takes exactly as many.
- Dropout of words and pixels, and dropout and drop-path in the blocks of CLIP, are left out: every released configuration
  sets them to 0. So is `joint` (tokens of all frames in one sequence), which fails in the official code.
- The position table that the official code makes for every head and only `transformer` reads is dropped on conversion.
- Where there are not as many candidates as videos, the official loss divides by the candidates, ours by the videos; in
  training, where each video brings its caption, they are as many.

Where the paper says one thing and the default is another (`ActionClipConfig.strict_settings` is the paper)

| paper | field | default | strict |
|---|---|---|---|
| sec. 3.3: the 1-D convolution runs over time | `transpose_conv1d` | False, as the code and its weights | True |
"""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize
from transformers import CLIPTextConfig
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPEncoder, CLIPEncoderLayer, CLIPPreTrainedModel

from kinoclip.methods.actionclip.configuration_actionclip import ActionClipConfig
from kinoclip.modeling.clip_recognizer import ClipRecognizer
from kinoclip.modeling.layers.temporal_shift import TemporalShiftLayer, replace_layers
from kinoclip.modeling.layers.temporal_transformer import (
    TemporalTransformer,
    check_length,
    frame_blocks_config,
    initialize_blocks,
    mark_fused,
)
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures


class PostNormLayer(CLIPEncoderLayer):
    """A layer of torch's `nn.TransformerEncoder`: normalizes after each sum, and drops out in training."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, **kwargs: Any) -> Tensor:
        """Attend and transform (N, L, W)."""
        attended, _ = self.self_attn(hidden_states=hidden_states, attention_mask=attention_mask, **kwargs)
        hidden_states = self.layer_norm1(hidden_states + self._drop(attended))
        transformed = self._drop(self.mlp.activation_fn(self.mlp.fc1(hidden_states)))
        return self.layer_norm2(hidden_states + self._drop(self.mlp.fc2(transformed)))

    def _drop(self, hidden_states: Tensor) -> Tensor:
        # one rate serves the attention weights, both sums and the inside of the MLP
        return dropout(hidden_states, self.self_attn.dropout, self.training)


class ClassTokenTransformer(CLIPPreTrainedModel):
    """Attention of a class token to the frames of a video.

    Source: official `modules/fusion_module.py`, `TAggregate`.
    """

    config: CLIPTextConfig
    main_input_name = "frames"

    def __init__(self, config: CLIPTextConfig):
        super().__init__(config)
        self.class_embedding = nn.Parameter(torch.zeros(1, config.hidden_size))
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.encoder = CLIPEncoder(config)
        self.encoder.layers = nn.ModuleList([PostNormLayer(config) for _ in range(config.num_hidden_layers)])
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        mark_fused(self.encoder)
        self.post_init()

    @classmethod
    def for_config(cls, config: ActionClipConfig) -> Self:
        """Build the head of a recognizer; heads and inner width are fixed, whatever the CLIP."""
        shape = frame_blocks_config(
            hidden_size=config.projection_dim,
            intermediate_size=2048,
            num_hidden_layers=config.temporal_layers,
            num_attention_heads=8,
            max_position_embeddings=config.num_frames + 1,
            hidden_act="relu",
            layer_norm_eps=1e-5,
            attention_dropout=config.temporal_dropout,
            attn_implementation=config._attn_implementation,
        )
        return cls._from_config(shape)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        initialize_blocks(module, self.config, _draw_folded_normal)
        if module is self:
            _draw_folded_normal(self.class_embedding, self.config.initializer_range)

    def forward(self, frames: Tensor) -> Tensor:
        """Pool frames (B, T, D), one less than positions or fewer, to (B, D)."""
        length = frames.shape[1]
        check_length(length, self.position_embedding.num_embeddings - 1)
        token = self.class_embedding.to(frames.dtype).expand(frames.shape[0], 1, -1)
        tokens = torch.cat([token, frames], dim=1) + self.position_embedding.weight[: length + 1].to(frames.dtype)
        return self.layer_norm(self.encoder(tokens, None).last_hidden_state[:, 0])


def _draw_folded_normal(weight: Tensor, std: float) -> None:
    # the official `trunc_normal_` takes the remainder of a normal by 2, instead of cutting it off
    init.copy_(weight, torch.randn_like(weight).fmod(2) * std)


class RecurrentHead(nn.Module):
    """Add the output of a recurrent network over the frames to each frame.

    Source: official `modules/fusion_module.py`, `visual_prompt` with `LSTM`.
    """

    def __init__(self, width: int):
        super().__init__()
        self.lstm = nn.LSTM(width, width, batch_first=True)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the frames (B, T, D) plus the output of the LSTM."""
        return self.lstm(frames)[0] + frames


class ConvolutionalHead(nn.Module):
    """Add a depthwise convolution over neighboring frames to each frame.

    Source: official `modules/fusion_module.py`, `visual_prompt` with `Conv_1D`.
    """

    def __init__(self, width: int, *, transpose: bool):
        super().__init__()
        self.transpose = transpose
        self.conv = nn.Conv1d(width, width, 3, padding=1, groups=width, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the frames (B, T, D) plus the output of the convolution."""
        batch, length, width = frames.shape
        # without the transpose, position t of channel c holds number c * T + t of the video, as in training
        channels = frames.transpose(1, 2) if self.transpose else frames.reshape(batch, width, length)
        return self.conv(channels).transpose(1, 2) + frames


class ActionClipModel(ClipRecognizer):
    """ActionCLIP: a temporal head joins the frames; the probabilities of several templates are averaged."""

    config: ActionClipConfig
    _no_split_modules = [*ClipRecognizer._no_split_modules, "PostNormLayer"]

    def __init__(self, config: ActionClipConfig):
        super().__init__(config)
        if config.temporal_shift != "none":
            replace_layers(self.vision_model, TemporalShiftLayer)
        self.temporal_head = _build_head(config)
        self.post_init()

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Pool the frames: (B, D), not unit length."""
        joined = self.contextualize(frames)
        return joined if self.config.temporal_head == "transformer_cls" else joined.mean(1)

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Compute the cosine of each video (B, D) and candidate, averaged over templates: (B, K)."""
        return match_templates(video, text).mean(0)

    def scale_votes(self, votes: dict[str, Tensor], video: Tensor | None, text: TextFeatures) -> dict[str, Tensor]:
        """Scale the cosines of one template, or compute the log of the mean probability of several: (B, K)."""
        scaled = super().scale_votes(votes, video, text)
        if video is not None and len(text.embeds) > 1:
            logits = self.logit_scale.exp() * match_templates(video, text)
            scaled["video"] = logits.log_softmax(-1).logsumexp(0) - math.log(len(logits))
        return scaled

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, nn.LSTM):  # as torch starts it
            bound = module.hidden_size**-0.5
            for parameter in module.parameters():
                init.uniform_(parameter, -bound, bound)
        elif isinstance(module, nn.Conv1d):
            # a quarter of the channels takes the frame before, a quarter the frame after, the rest the frame itself
            taps, quarter = torch.zeros_like(module.weight), module.out_channels // 4
            taps[:quarter, 0, 0] = taps[quarter:-quarter, 0, 1] = taps[-quarter:, 0, 2] = 1
            init.copy_(module.weight, taps)


def match_templates(video: Tensor, text: TextFeatures) -> Tensor:
    """Compute the cosine of each video (B, D) and candidate in each template: (P, B, K)."""
    return torch.einsum("bd,pkd->pbk", normalize(video, dim=-1), normalize(text.embeds, dim=-1))


def _build_head(config: ActionClipConfig) -> nn.Module | None:
    match config.temporal_head:
        case "transformer":
            return TemporalTransformer.for_config(config)
        case "transformer_cls":
            return ClassTokenTransformer.for_config(config)
        case "lstm":
            return RecurrentHead(config.projection_dim)
        case "conv1d":
            return ConvolutionalHead(config.projection_dim, transpose=config.transpose_conv1d)
    return None
