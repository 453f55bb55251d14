"""X-CLIP: Expanding Language-Image Pretrained Models for General Video Recognition.

Bolin Ni, Houwen Peng, Minghao Chen, Songyang Zhang, Gaofeng Meng, Jianlong Fu, Shiming Xiang, Haibin Ling; ECCV 2022;
https://arxiv.org/abs/2208.02816.

In every layer of the vision tower a message token of each frame attends to the messages of the other frames, and the tokens of the frame
read its message. A small transformer integrates the frames to one vector, which is matched with the label. This is the baseline of ALT's
Table 5.

Differences from the official code
- Video-specific prompts, which add the mean patch of a video to the text of each label, are left out, as in ALT's baseline.
- The published checkpoints have such prompts, so they are not converted; Transformers has their model (`XCLIPModel`).
- Positions are for `num_frames` frames; a shorter video takes the first of them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPAttention, CLIPEncoderLayer

from kinoclip.methods.xclip.configuration_xclip import XclipConfig
from kinoclip.modeling.clip_recognizer import ClipRecognizer
from kinoclip.modeling.layers.temporal_shift import replace_layers
from kinoclip.modeling.layers.temporal_transformer import TemporalTransformer, frame_blocks_config
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures


class CrossFrameLayer(CLIPEncoderLayer):
    """A layer of CLIP's vision tower whose tokens also read a message from all frames of the video.

    Source: official `models/cct.py`, `CrossFramelAttentionBlock`; parameter names are those of Transformers' X-CLIP.
    """

    def __init__(self, config: CLIPVisionConfig):
        super().__init__(config)
        self.message_fc = nn.Linear(config.hidden_size, config.hidden_size)
        self.message_ln = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.message_attn = CLIPAttention(config)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, num_frames: int, **kwargs: Any) -> Tensor:
        """Return the (B * T, 1 + M, C) tokens after the exchange of messages, attention and MLP."""
        messages = self.message_fc(hidden_states[:, 0]).unflatten(0, (-1, num_frames))
        messages = messages + self.message_attn(self.message_ln(messages), **kwargs)[0]
        tokens = torch.cat([hidden_states, messages.flatten(0, 1)[:, None]], dim=1)
        attended, _ = self.self_attn(self.layer_norm1(tokens), attention_mask, **kwargs)
        hidden_states = (tokens + attended)[:, :-1]
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))


class XclipModel(ClipRecognizer):
    """X-CLIP: frames exchange messages in the vision tower and are integrated by a small transformer."""

    config: XclipConfig
    _no_split_modules = [*ClipRecognizer._no_split_modules, "CrossFrameLayer"]

    def __init__(self, config: XclipConfig):
        super().__init__(config)
        if config.cross_frame == "attention":
            replace_layers(self.vision_model, CrossFrameLayer)
        if config.temporal_head == "transformer":
            shape = frame_blocks_config(
                hidden_size=config.projection_dim,
                num_hidden_layers=config.temporal_layers,
                num_attention_heads=max(1, config.projection_dim // 64),
                max_position_embeddings=config.num_frames,
                layer_norm_eps=1e-5,
                attn_implementation=config._attn_implementation,
            )
            self.temporal_head = TemporalTransformer._from_config(shape)
        self.post_init()

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Integrate the frames: (B, D), not unit length."""
        return self.contextualize(frames).mean(1)

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Initialize the modules, and the messages differently from the vision tower that they are part of."""
        super().initialize_weights()
        for module in self.modules():
            if isinstance(module, CrossFrameLayer):
                for layer in (module.message_fc, *module.message_attn.children()):
                    init.normal_(layer.weight, std=self.config.initializer_range)
                    init.zeros_(layer.bias)
