"""Recognizers that are a CLIP model: same parameter names, so any CLIP checkpoint fills both towers."""

from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig
from transformers import initialization as init
from transformers.configuration_utils import SubConfigSpec

from kinoclip.conversion import clip_to_transformers, infer_clip_config, read_checkpoint
from kinoclip.outputs import FrameFeatures, TextFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.recognizer_config import RecognizerConfig

# prompts encoded at once: 400 prompts in one piece need 3 GB and are slower
_TEXT_CHUNK = 64


@strict
class ClipRecognizerConfig(RecognizerConfig):
    """The config of a recognizer on CLIP: both towers, and whether the text tower is part of the checkpoint.

    Args:
        text_tower: false for a checkpoint with fixed candidates whose text tower was dropped.
    """

    sub_configs_defaults = {
        "text_config": SubConfigSpec(CLIPTextConfig),
        "vision_config": SubConfigSpec(CLIPVisionConfig),
    }

    text_config: dict[str, Any] | CLIPTextConfig | None = None
    vision_config: dict[str, Any] | CLIPVisionConfig | None = None
    projection_dim: int = 512
    logit_scale_init_value: float | int = 2.6592
    initializer_factor: float | int = 1.0
    text_tower: bool = True

    @classmethod
    def from_clip_config(cls, clip: CLIPConfig, **fields: Any) -> Self:
        """Give the config of this method on the towers of a CLIP config."""
        towers = {"text_config": clip.text_config.to_dict(), "vision_config": clip.vision_config.to_dict()}
        shared = {"projection_dim": clip.projection_dim, "logit_scale_init_value": clip.logit_scale_init_value}
        return cls(**{**towers, **shared, **fields})


class ClipRecognizer(VideoRecognizer, CLIPModel):
    """A `CLIPModel` that recognizes videos; methods build on it."""

    config: ClipRecognizerConfig
    config_class = ClipRecognizerConfig
    main_input_name = "pixel_values_videos"
    input_modalities = ("video", "text")
    # whether the method reads every position of the text, or its end only
    reads_words = False

    def __init__(self, config: ClipRecognizerConfig):
        super().__init__(config)
        if not config.text_tower:
            self.drop_text_tower()
        self._register_candidates()

    @classmethod
    def from_clip(cls, clip: str | Path, *, dtype: torch.dtype | None = torch.float32, **fields: Any) -> Self:
        """Build the method on a trained CLIP; exactly the method's own modules are left to initialize.

        Args:
            clip: a CLIP folder or hub id in the Transformers layout, or a file in OpenAI's layout.
            dtype: of the weights; None keeps the checkpoint's.
            fields: config fields of the method.

        Raises:
            ValueError: the checkpoint is no CLIP, or lacks some of its weights, or is a file that holds others too.
        """
        if Path(clip).is_file():
            state = read_checkpoint(clip)
            config = cls.config_class.from_clip_config(infer_clip_config(state), **fields)
            source: dict[str, Any] = {"state_dict": clip_to_transformers(state)}
            origin = None
        else:
            clip_config = CLIPConfig.from_pretrained(clip)
            if CLIPConfig.get_config_dict(clip)[0].get("model_type") != "clip":
                raise ValueError(f"{clip} is no CLIP checkpoint. Give a CLIP folder, hub id or OpenAI-layout file.")
            config = cls.config_class.from_clip_config(clip_config, **fields)
            source, origin = {}, str(clip)
        model: Self
        report: dict[str, Any]
        model, report = cls.from_pretrained(origin, config=config, dtype=dtype, output_loading_info=True, **source)
        clip_names = {name for name, _ in _clip_skeleton(config).named_parameters()}
        missing = sorted(set(report["missing_keys"]) & clip_names)
        if missing:
            raise ValueError(f"{clip} lacks {len(missing)} weights of CLIP, first {missing[0]}. Is the file whole?")
        unknown = sorted(report["unexpected_keys"]) if origin is None else []
        if unknown:
            raise ValueError(f"{clip} holds {len(unknown)} weights that CLIP does not have, first {unknown[0]}.")
        return model

    @property
    def frame_width(self) -> int:
        """D, the width of the shared space."""
        return self.config.projection_dim

    def drop_text_tower(self) -> Self:
        """Leave out the text tower: the candidates that the checkpoint carries are then the only ones."""
        self.text_model = None
        self.text_projection = None
        self.config.text_tower = False
        return self

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame with CLIP's vision tower: (B, T, 3, H, W) -> embeds (B, T, D), not unit length."""
        pooled = self.vision_model(pixel_values=pixel_values_videos.flatten(0, 1)).pooler_output
        return FrameFeatures(embeds=self.visual_projection(pooled).unflatten(0, pixel_values_videos.shape[:2]))

    def encode_text(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, word_mask: Tensor | None = None
    ) -> TextFeatures:
        """Encode the candidates with CLIP's text tower: (P, K, L) -> embeds (P, K, D), words (K, P*L, D).

        Raises:
            ValueError: the text tower was dropped.
        """
        if self.text_model is None:
            raise ValueError(
                "This checkpoint was saved without its text tower: it knows only its own candidates. "
                "Use a checkpoint with a text tower for other labels."
            )
        templates, num_candidates, length = input_ids.shape
        # the causal mask makes what follows the last end-of-text token irrelevant; a graph cannot depend on where it is
        if not self.reads_words and not torch.compiler.is_compiling():
            length = int(end_of_text(input_ids, self.config.text_config.eos_token_id).max()) + 1
        ids = input_ids[..., :length].flatten(0, 1).split(_TEXT_CHUNK)
        masks = [None] * len(ids)
        if attention_mask is not None:
            masks = attention_mask[..., :length].flatten(0, 1).split(_TEXT_CHUNK)
        outputs = [self.text_model(input_ids=i, attention_mask=m) for i, m in zip(ids, masks, strict=True)]
        embeds = self.text_projection(torch.cat([output.pooler_output for output in outputs]))
        features = TextFeatures(embeds=embeds.unflatten(0, (templates, num_candidates)))
        if self.reads_words:
            words = self.text_projection(torch.cat([output.last_hidden_state for output in outputs]))
            words = words.unflatten(0, (templates, num_candidates))
            features.words = words.transpose(0, 1).flatten(1, 2)
            if word_mask is not None:
                features.word_mask = word_mask.transpose(0, 1).flatten(1, 2).bool()
        return features

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Give the cosine of each video (B, D) and candidate, templates averaged: (B, K)."""
        return normalize(video, dim=-1) @ ensemble(text.embeds).T

    def scales(self) -> dict[str, Tensor]:
        """Give CLIP's learned factor, `exp(logit_scale)`."""
        return {"video": self.logit_scale.exp()}

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if module is self:
            init.constant_(self.logit_scale, self.config.logit_scale_init_value)


def ensemble(embeds: Tensor) -> Tensor:
    """Average the templates of each candidate: (P, K, D) -> (K, D), unit length."""
    return normalize(normalize(embeds, dim=-1).mean(0), dim=-1)


def end_of_text(input_ids: Tensor, eos_token_id: int | None) -> Tensor:
    """Find the end-of-text token of each row: (..., L) -> (...) positions.

    Published CLIP configs carry the wrong `eos_token_id` 2; for them, as in Transformers, it is the highest id.
    """
    if eos_token_id is None or eos_token_id == 2:
        return input_ids.argmax(-1)
    return (input_ids == eos_token_id).int().argmax(-1)


def _clip_skeleton(config: ClipRecognizerConfig) -> CLIPModel:
    with torch.device("meta"):
        return CLIPModel(
            CLIPConfig(
                text_config=config.text_config.to_dict(),
                vision_config=config.vision_config.to_dict(),
                projection_dim=config.projection_dim,
            )
        )
