"""Text4Vis: Revisiting Classifier: Transferring Vision-Language Models for Video Recognition.

Wenhao Wu, Zhun Sun, Wanli Ouyang; AAAI 2023; https://arxiv.org/abs/2207.01297.

The classifier of a video model is CLIP's text embeddings of the class names, which are frozen. Frames are averaged, after a
temporal transformer in the published models, and the video is matched with the classes by cosine. The official code can
also shift channels between frames inside the vision tower (TSM, token shift, a convolution over class tokens), attend to
all patches of a video jointly, or use CLIP's ResNets.

Differences from the official code
- Logits are always multiplied by `exp(logit_scale)`; the official test scripts multiply by 100, the initial scale.
- The text tower is part of the model unless it is dropped; an official checkpoint has none.
- Several templates per candidate are averaged; the official code has one.
- `joint_space_time` takes any number of frames: the time embedding is interpolated.
- In contrastive training on several processes features are gathered before the head, as in BIKE, not after it: the
  gradient of the head is then the full one instead of its share. AdamW is indifferent to that factor.

Differences from the paper
- The classifiers that it compares with (random, orthogonal, LDA) can be passed as `text_features`; none is built here.
"""

from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPEncoderLayer, CLIPVisionEmbeddings

from kinoclip.methods.text4vis.configuration_text4vis import Text4VisConfig
from kinoclip.methods.text4vis.resnet import (
    ResNetVisionModel,
    holds_resnet,
    infer_resnet_fields,
    resnet_to_transformers,
)
from kinoclip.modeling.checkpoints import check_keys, clip_to_transformers, infer_text_fields, read_checkpoint
from kinoclip.modeling.clip_recognizer import ClipRecognizer
from kinoclip.modeling.layers.attention_maps import map_attention
from kinoclip.modeling.layers.temporal_shift import TemporalShiftLayer, replace_layers, shift_frames
from kinoclip.modeling.layers.temporal_transformer import TemporalTransformer, stretch_table
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures
from kinoclip.modeling.shim import OwnCodeMixin


class TokenShiftLayer(CLIPEncoderLayer):
    """A layer that shifts a quarter of the class token's channels in each direction, before attention and before MLP.

    Source: official `clip/model.py`, `TokenShift`.
    """

    def mix_tokens(self, tokens: Tensor, num_frames: int) -> Tensor:
        """Mix the class tokens (B * T, C) of each video."""
        return shift_frames(tokens, num_frames, fold=tokens.shape[-1] // 4)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None, num_frames: int, **kwargs: Any) -> Tensor:
        """Return the (B * T, 1 + M, C) tokens after mixing, attention, mixing and MLP."""
        hidden_states = self._mix(hidden_states, num_frames)
        attended, _ = self.self_attn(self.layer_norm1(hidden_states), attention_mask, **kwargs)
        hidden_states = self._mix(hidden_states + attended, num_frames)
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))

    def _mix(self, hidden_states: Tensor, num_frames: int) -> Tensor:
        class_token = self.mix_tokens(hidden_states[:, 0], num_frames)
        return torch.cat([class_token[:, None], hidden_states[:, 1:]], dim=1)


class TokenConvLayer(TokenShiftLayer):
    """A layer whose class tokens pass through a depthwise convolution over time.

    Source: official `clip/model.py`, `TokenT1D`.
    """

    def __init__(self, config: CLIPVisionConfig):
        super().__init__(config)
        width = config.hidden_size
        self.temporal_conv = nn.Conv1d(width, width, 3, padding=1, groups=width, bias=False)

    def mix_tokens(self, tokens: Tensor, num_frames: int) -> Tensor:
        """Mix the class tokens (B * T, C) of each video."""
        channels_first = tokens.unflatten(0, (-1, num_frames)).transpose(1, 2)
        return self.temporal_conv(channels_first).transpose(1, 2).flatten(0, 1)


class SpaceTimeEmbeddings(CLIPVisionEmbeddings):
    """The class token of the first frame and the patches of all frames of a video in one sequence."""

    def __init__(self, config: CLIPVisionConfig, num_frames: int):
        super().__init__(config)
        self.time_embedding = nn.Embedding(num_frames, config.hidden_size)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """Embed videos (B, T, 3, H, W): (B, 1 + M * T, C), the frames of a patch in succession."""
        frames = super().forward(pixel_values.flatten(0, 1), interpolate_pos_encoding)
        frames = frames.unflatten(0, pixel_values.shape[:2])
        patches = frames[:, :, 1:] + stretch_table(self.time_embedding.weight, frames.shape[1])[:, None]
        return torch.cat([frames[:, 0, :1], patches.transpose(1, 2).flatten(1, 2)], dim=1)


LAYERS = {"tsm": TemporalShiftLayer, "token_shift": TokenShiftLayer, "token_t1d": TokenConvLayer}


class TemporalVisionModel(OwnCodeMixin, CLIPVisionModel):
    """CLIP's ViT with connections between frames, under the same parameter names."""

    def __init__(self, config: CLIPVisionConfig, recognizer: Text4VisConfig):
        super().__init__(config)
        if recognizer.joint_space_time:
            self.embeddings = SpaceTimeEmbeddings(config, recognizer.num_frames)
        else:
            replace_layers(self, LAYERS[recognizer.temporal_shift])
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, SpaceTimeEmbeddings):
            init.normal_(module.time_embedding.weight, std=self.config.hidden_size**-0.5)
        elif isinstance(module, nn.Conv1d):  # initially the token shift; taps are previous, own, next frame
            weight = torch.zeros_like(module.weight)
            fold = len(weight) // 4
            weight[:fold, 0, 2] = weight[fold : 2 * fold, 0, 0] = weight[2 * fold :, 0, 1] = 1
            init.copy_(module.weight, weight)


class Text4VisModel(ClipRecognizer):
    """Text4Vis: the mean of a video's frames, matched with CLIP's own text embeddings of the classes."""

    config: Text4VisConfig
    _no_split_modules = [*ClipRecognizer._no_split_modules, "TokenShiftLayer", "TokenConvLayer"]

    def __init__(self, config: Text4VisConfig):
        super().__init__(config)
        if config.resnet_layers is not None:
            shift = config.temporal_shift == "tsm"
            tower = {"layers": config.resnet_layers, "shift": shift}
            self.vision_model = ResNetVisionModel._from_config(config.vision_config, **tower)
            self.visual_projection = nn.Linear(config.vision_config.hidden_size, config.projection_dim)
        elif config.joint_space_time or config.temporal_shift != "none":
            self.vision_model = TemporalVisionModel._from_config(config.vision_config, recognizer=config)
        if config.temporal_head == "transformer":
            self.temporal_head = TemporalTransformer.for_config(config)
        self.post_init()

    @classmethod
    def from_clip(cls, clip: str | Path, *, dtype: torch.dtype | None = torch.float32, **fields: Any) -> Self:
        """Build Text4Vis on a trained CLIP, a ViT or (a file in OpenAI's layout) a ResNet; see `ClipRecognizer.from_clip`."""
        state = read_checkpoint(clip) if Path(clip).is_file() else {}
        if not holds_resnet(state):
            return super().from_clip(clip, dtype=dtype, **fields)
        vision = {name: tensor for name, tensor in state.items() if name.startswith("visual.")}
        rest = {name: tensor for name, tensor in state.items() if name not in vision}
        found = infer_resnet_fields(vision) | {"text_config": infer_text_fields(rest)}
        state = resnet_to_transformers(vision) | clip_to_transformers(rest)
        model: Self
        report: dict[str, Any]
        model, report = cls.from_pretrained(
            None, config=cls.config_class(**found, **fields), state_dict=state, dtype=dtype, output_loading_info=True
        )
        own = ("temporal_head.", "attributes.", "chinese.")
        missing = [name for name in report["missing_keys"] if not name.startswith(own)]
        check_keys(missing, report["unexpected_keys"], (), str(clip), "CLIP", "Name a whole CLIP.")
        return model

    @property
    def encodes_frames_alone(self) -> bool:
        """Whether there is neither temporal shift nor joint attention."""
        return not self.config.joint_space_time and self.config.temporal_shift == "none"

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame: (B, T, 3, H, W) -> embeds (B, T, D); (B, 1, D) with joint space-time attention."""
        config = self.config
        if config.joint_space_time:
            pooled = self.vision_model(pixel_values=pixel_values_videos).pooler_output
            return FrameFeatures(embeds=self.visual_projection(pooled)[:, None])
        if config.temporal_shift == "none" and config.resnet_layers is None:
            return super().encode_frames(pixel_values_videos)
        return self.encode_together(pixel_values_videos)

    def _map_attention(self, pixel_values_videos: Tensor) -> Tensor | None:
        """Compute the attention to each patch; the one map of joint space-time is split and normalized per frame."""
        if not self.config.joint_space_time:
            return super()._map_attention(pixel_values_videos)
        maps = map_attention(self.vision_model, lambda: self.encode_frames(pixel_values_videos))
        frames = maps.unflatten(1, (-1, pixel_values_videos.shape[1])).transpose(1, 2)
        return frames / frames.sum(-1, keepdim=True)

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Average the frames after the temporal head: (B, D), not unit length."""
        return self.contextualize(frames).mean(1)
