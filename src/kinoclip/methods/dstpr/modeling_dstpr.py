"""DSTPR: Adapting CLIP for Action Recognition via Dual Semantic Supervision and Temporal Prompt Reparameterization.

Lujuan Deng, Jieqing Tan, Fangmei Liu; Electronics 2024, 13(16), 3348; https://doi.org/10.3390/electronics13163348.

CLIP stays as it is. Prompts tell each layer of its vision tower, for every frame, what the other frames show; a small
network re-encodes them first. Frames are weighed by the words of each candidate, and the video is matched with the
candidate's English and Chinese names. There is no official code.

What the paper leaves open, and the choice made
- The network of eq. 12: widths, kernels and norms are not printed. Half the width, kernels of 3 over the prompts of a
  frame and then over the frames, a batch norm and a ReLU between them, one network for each layer, and a last layer that
  starts at zero. With 8 frames on ViT-B/16 this trains 53,334,528 parameters. Table 6 prints 54.2 million, and its
  "+100 %" and "+147 %" imply 53.3; nothing that we tried gives 54.2 (`reparam_preset="count_54M"`: 54,508,800).
- Which layers: all, with prompts of their own; no layer's prompts reach the next (`prompt_layers`).
- Global prompts of T x S x C (sec. 3.3.1) are S x C, the same for all frames; as T x S they would not fit the one count
  that is printed for both T.
- Interchange prompts of T x T x C (eq. 9): slot j holds i_j and the token of frame j, for every frame, as in Vita-CLIP's
  code (`interchange="own"` for the token of the current frame in all slots).
- Vita-CLIP's released code leaves the projection of class tokens at random; here it is trained (`freeze_cls_proj`).
- e_temporal (eq. 1) is trained; with another T, each frame takes the nearest vector. Slots of frames have no such rule,
  so with interchange prompts another T is refused.
- Word weights (eq. 6) are made for each pair of video and text, in training too, and over all 77 positions, as in BIKE's
  code (`word_tokens`); the weighed video keeps its length (`renormalize_video`).
- The Chinese score uses the video that the English words weighed (`chinese_word_weights`), and the share of each
  language (eq. 18) is 0.5 (`fusion_weight`).
- Eq. 15-16 print sums without brackets and exchange the names of their lines; they are read as the mean over all matches
  of a text, and over all matches of a video. Texts without a video in the batch are left out.
- The text side is frozen; Table 5 may also mean a learned context that starts at a phrase (`learnable_text_context`).

Where the paper prints one thing and the default is another (`DstprConfig.strict_settings` is the paper)

| paper | field | default | strict |
|---|---|---|---|
| eq. 6: average over the words of the label | `word_tokens` | "all" 77 positions, as BIKE's code | "label" |
| eq. 15-16: cosine of video and name | `renormalize_video` | False, the pooled video keeps its length | True |
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPTextEmbeddings

from kinoclip.clip_recognizer import ClipRecognizer
from kinoclip.components.saliency import frame_saliency
from kinoclip.components.temporal_shift import replace_layers
from kinoclip.components.text_features import end_of_text, ensemble
from kinoclip.losses import symmetric_cross_entropy
from kinoclip.outputs import FrameFeatures, TextFeatures

from .configuration_dstpr import DstprConfig
from .prompts import PromptedLayer, TemporalPrompts


class ContextEmbeddings(CLIPTextEmbeddings):
    """The embeddings of CLIP's text tower, with a learned offset on the tokens behind the start token."""

    def __init__(self, config: Any, length: int):
        super().__init__(config)
        self.text_context = nn.Parameter(torch.zeros(length, config.hidden_size))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Embed ids (N, L): (N, L, C)."""
        embeds = super().forward(*args, **kwargs)
        length = embeds.shape[1]
        return embeds + pad(self.text_context, (0, 0, 1, length))[:length]


class DstprModel(ClipRecognizer):
    """DSTPR: prompts in a frozen vision tower, frames weighed by words, and a second vote in Chinese."""

    config: DstprConfig
    config_class = DstprConfig
    _no_split_modules = [*ClipRecognizer._no_split_modules, "PromptedLayer"]

    def __init__(self, config: DstprConfig):
        super().__init__(config)
        self.prompts = None
        if config.prompted_layers or config.embeds_time:
            replace_layers(self.vision_model, PromptedLayer)
            self.prompts = TemporalPrompts(config)
        if config.learnable_text_context and self.text_model is not None:
            self.text_model.embeddings = ContextEmbeddings(config.text_config, config.text_context_length)
        self.post_init()

    @property
    def reads_words(self) -> bool:
        """Whether the frames are weighed by words."""
        return self.config.frame_aggregation == "word"

    @property
    def encodes_frames_alone(self) -> bool:
        """Whether no prompt tells a frame about the others."""
        return self.prompts is None

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame, told about the others by prompts: (B, T, 3, H, W) -> embeds (B, T, D).

        Raises:
            ValueError: T is not the number of frames that exchange prompts.
        """
        if self.prompts is None:
            return super().encode_frames(pixel_values_videos)
        class_tokens = self.encode_tokens(pixel_values_videos, class_token_only=True)[:, 0]
        embeds = self.visual_projection(self.vision_model.post_layernorm(class_tokens))
        return FrameFeatures(embeds=embeds.unflatten(0, pixel_values_videos.shape[:2]))

    def encode_tokens(self, pixel_values_videos: Tensor, *, class_token_only: bool = False) -> Tensor:
        """Give the tokens (B * T, 1 + M, C), or class tokens (B * T, 1, C), after the last layer of the prompted tower."""
        shape, tower = pixel_values_videos.shape[:2], self.vision_model
        tokens = tower.embeddings(pixel_values_videos.flatten(0, 1))
        tokens = tower.pre_layrnorm(self.prompts.add_time(tokens.unflatten(0, shape)).flatten(0, 1))
        last = len(tower.encoder.layers) - 1
        for number, layer in enumerate(tower.encoder.layers):
            prompts = self.prompts(tokens[:, 0].unflatten(0, shape), number)
            # by position: gradient checkpointing does not see tensors among the keywords
            prompts = None if prompts is None else prompts.flatten(0, 1)
            tokens = layer(tokens, None, prompts, class_token_only and number == last)
        return tokens

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        word_mask: Tensor | None = None,
        **inputs: Tensor,
    ) -> TextFeatures:
        """Encode the candidates as CLIP does: (P, K, L) -> embeds (P, K, D), words (K, P*L, D) and which of them count."""
        if self.config.word_tokens == "valid":
            end = end_of_text(input_ids, self.config.text_config.eos_token_id)
            word_mask = torch.arange(input_ids.shape[-1], device=input_ids.device) <= end[..., None]
        return super().encode_text(input_ids, attention_mask, word_mask, **inputs)

    def _encode_branches(self, input_ids: Tensor, chinese_input_ids: Tensor | None) -> dict[str, Tensor] | None:
        """Encode the candidates for further branches, Chinese words (L, K, D) too where they weigh the frames."""
        branches = super()._encode_branches(input_ids, chinese_input_ids) or {}
        if self.config.chinese_word_weights and chinese_input_ids is not None:
            words, present = self.chinese.read(chinese_input_ids[0])
            # padding is zero, which no word is
            words = self.chinese.text_projection(words) * present[..., None]
            branches["chinese_words"] = words.transpose(0, 1)
        return branches or None

    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor | None:
        """Tell how much each frame counts for each candidate (eq. 6): (B, K, T), or None where frames are averaged.

        Raises:
            ValueError: the label's words are asked for, but the features do not say which they are.
        """
        if self.config.frame_aggregation == "mean":
            return None
        if self.config.word_tokens == "label" and text.word_mask is None:
            raise ValueError('word_tokens="label" needs `word_mask`: make the inputs with the DSTPR processor.')
        mask = None if self.config.word_tokens == "all" else text.word_mask
        return self._weigh(frames, text.words, mask)

    def _weigh(self, frames: FrameFeatures, words: Tensor, mask: Tensor | None) -> Tensor:
        return frame_saliency(normalize(frames.embeds, dim=-1), words, self.config.temperature, mask, cosine=True)

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Pool the frames: (B, K, D) weighed per candidate (eq. 7), or their mean (B, D).

        Where Chinese words weigh the frames too, (B, K, 2 * D): as English words weigh them, and as Chinese ones do.
        """
        weights = self.saliency(frames, text)
        if weights is None:
            return frames.embeds.mean(1)
        video = self._pool(frames, weights)
        if self.config.chinese_word_weights:
            words = (text.branches or {}).get("chinese_words")
            chinese = video
            if words is not None:
                words = words.transpose(0, 1)
                present = words.abs().sum(-1) > 0
                named = present.any(-1, keepdim=True)  # without a name, the English words weigh the frames
                chinese = self._pool(frames, self._weigh(frames, words, present | ~named))
                chinese = torch.where(named, chinese, video)
            video = torch.cat([video, chinese], -1)
        return video

    def _pool(self, frames: FrameFeatures, weights: Tensor) -> Tensor:
        video = torch.einsum("bkt,btd->bkd", weights, normalize(frames.embeds, dim=-1))
        return normalize(video, dim=-1) if self.config.renormalize_video else video

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Score the pooled video with each candidate: a cosine after the mean; after weighing its length counts."""
        candidates = ensemble(text.embeds)
        if video.ndim == 2:
            return normalize(video, dim=-1) @ candidates.T
        return torch.einsum("bkd,kd->bk", video[..., : candidates.shape[-1]], candidates)

    def branches(self, video: Tensor | None, text: TextFeatures, **inputs: Tensor) -> dict[str, Tensor]:
        """Vote by English and Chinese names, and by attributes where they are given."""
        votes = super().branches(video, text, **inputs)
        names = (text.branches or {}).get("chinese")
        if self.config.chinese_word_weights and names is not None and video is not None:
            votes["chinese"] = self._vote_in_chinese(video[..., self.frame_width :], votes["video"], text, names)
        return votes

    def scales(self) -> dict[str, Tensor]:
        """Give one over the temperature for the names in both languages; attributes have their own factor."""
        scale = self.logit_scale.new_tensor(1 / self.config.temperature)
        return super().scales() | {"video": scale, "chinese": scale}

    def criterion(self, logits: Tensor, match: Tensor) -> Tensor:
        """Give the symmetric loss between videos and candidates (eq. 15-16), or another if the config says so."""
        if self.config.loss == "symmetric_kl" and self.config.loss_targets == "uniform":
            return symmetric_cross_entropy(logits, match)
        return super().criterion(logits, match)

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Name CLIP and the Chinese tower: only prompts and what makes them are trained."""
        if self.config.train_branch == "attributes":
            return super().frozen_prefixes()
        text = ("text_model.encoder.", "text_model.final_layer_norm.", "text_projection.", "logit_scale")
        tables = ("text_model.embeddings.token_embedding.", "text_model.embeddings.position_embedding.")
        vision = ("vision_model.", "visual_projection.")
        return (*super().frozen_prefixes(), *vision, *text, *tables, *self._frozen_projections())

    def _frozen_projections(self) -> tuple[str, ...]:
        if self.prompts is None or not self.config.freeze_cls_proj:
            return ()
        return tuple(f"prompts.layers.{layer}.class_projection." for layer in self.prompts.layers)

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ContextEmbeddings):
            init.zeros_(module.text_context)
