"""DSTPR: Adapting CLIP for Action Recognition via Dual Semantic Supervision and Temporal Prompt Reparameterization.

Lujuan Deng, Jieqing Tan, Fangmei Liu; Electronics 2024, 13(16), 3348; https://doi.org/10.3390/electronics13163348.

CLIP is frozen. Prompts carry information about the other frames into each layer of its vision tower; a small network
re-encodes them first. Frames are weighed by the words of each candidate, and the video is matched with the candidate's
English and Chinese names. The authors published no code.

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
- Table 3 puts an LSTM or a transformer in place of the network and prints no sizes: here they are inside of the bottleneck, or
  instead of it, of the width of the tower (`reparam_bottleneck=False`).
- The text side is frozen; Table 5 may also mean a learned context that starts at a phrase (`learnable_text_context`).

Where the paper prints one thing and the default is another (`DstprConfig.strict_settings` is the paper)

| paper | field | default | strict |
|---|---|---|---|
| eq. 6: average over the words of the label | `word_tokens` | "all" 77 positions, as BIKE's code | "label" |
| eq. 15-16: cosine of video and name | `renormalize_video` | False, the pooled video keeps its length | True |
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad
from transformers import CLIPTextConfig, CLIPTextModel
from transformers import initialization as init
from transformers.models.clip.modeling_clip import CLIPTextEmbeddings

from kinoclip.methods.dstpr.configuration_dstpr import DstprConfig
from kinoclip.methods.dstpr.prompts import PromptedLayer, TemporalPrompts
from kinoclip.modeling.clip_recognizer import ClipRecognizer
from kinoclip.modeling.layers.saliency import frame_saliency
from kinoclip.modeling.layers.temporal_shift import replace_layers
from kinoclip.modeling.layers.text_features import end_of_text, ensemble
from kinoclip.modeling.losses import symmetric_cross_entropy
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures
from kinoclip.modeling.shim import OwnCodeMixin


class ContextEmbeddings(CLIPTextEmbeddings):
    """The embeddings of CLIP's text tower, with a learned offset on the tokens after the start token."""

    def __init__(self, config: Any, length: int):
        super().__init__(config)
        self.text_context = nn.Parameter(torch.zeros(length, config.hidden_size))

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """Embed ids (N, L): (N, L, C)."""
        embeds = super().forward(*args, **kwargs)
        length = embeds.shape[1]
        return embeds + pad(self.text_context, (0, 0, 1, length))[:length]


class ContextTextModel(OwnCodeMixin, CLIPTextModel):
    """CLIP's text tower with such embeddings; Transformers asks the tower, not the recognizer, for their first values."""

    def __init__(self, config: CLIPTextConfig, length: int):
        super().__init__(config)
        self.embeddings = ContextEmbeddings(config, length)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ContextEmbeddings):
            init.zeros_(module.text_context)


class DstprModel(ClipRecognizer):
    """DSTPR: prompts in a frozen vision tower, frames weighed by words, and a vote by Chinese names."""

    config: DstprConfig
    _no_split_modules = [*ClipRecognizer._no_split_modules, "PromptedLayer"]

    def __init__(self, config: DstprConfig):
        super().__init__(config)
        self.prompts = None
        if config.prompted_layers or config.embeds_time:
            replace_layers(self.vision_model, PromptedLayer)
            self.prompts = TemporalPrompts(config)
        if config.learnable_text_context and self.text_model is not None:
            length = config.text_context_length
            self.text_model = ContextTextModel._from_config(config.text_config, length=length)
        self.post_init()

    @property
    def constant_prefixes(self) -> tuple[str, ...]:
        """CLIP's scale, if only attributes would use it: the temperature is fixed."""
        return ("logit_scale",) if self.config.attributes == "none" else ()

    @property
    def reads_words(self) -> bool:
        """Whether the frames are weighed by words."""
        return self.config.frame_aggregation == "word"

    @property
    def encodes_frames_alone(self) -> bool:
        """Whether the model has no prompts, which depend on all frames."""
        return self.prompts is None

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame with prompts that depend on all frames: (B, T, 3, H, W) -> embeds (B, T, D)."""
        if self.prompts is None:
            return super().encode_frames(pixel_values_videos)
        class_tokens = self.encode_tokens(pixel_values_videos, class_token_only=True)[:, 0]
        embeds = self.visual_projection(self.vision_model.post_layernorm(class_tokens))
        return FrameFeatures(embeds=embeds.unflatten(0, pixel_values_videos.shape[:2]))

    def encode_tokens(self, pixel_values_videos: Tensor, *, class_token_only: bool = False) -> Tensor:
        """Return the tokens (B * T, 1 + M, C), or class tokens (B * T, 1, C), of the last layer of the prompted tower."""
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
        """Encode the candidates: (P, K, L) -> embeds (P, K, D), words (K, P*L, D) and their mask; Chinese words too."""
        if self.config.word_tokens == "valid":
            end = end_of_text(input_ids, self.config.text_config.eos_token_id)
            word_mask = torch.arange(input_ids.shape[-1], device=input_ids.device) <= end[..., None]
        text = super().encode_text(input_ids, attention_mask, word_mask, **inputs)
        chinese = inputs.get("chinese_input_ids")
        if self.config.chinese_word_weights and chinese is not None:
            words, present = self.chinese.encode_words(chinese[0], self)
            text.branches = {
                **(text.branches or {}),
                "chinese_words": words.transpose(0, 1),  # (L, K, D)
                "chinese_word_mask": present.T[..., None].to(words.dtype),  # (L, K, 1)
            }
        return text

    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor | None:
        """Compute the weight of each frame for each candidate (eq. 6): (B, K, T), or None where frames are averaged."""
        if self.config.frame_aggregation == "mean":
            return None
        if self.config.reads_label_words and text.word_mask is None:
            raise ValueError('word_tokens="label" needs `word_mask`: make the inputs with the DSTPR processor.')
        mask = None if self.config.word_tokens == "all" else text.word_mask
        return self._weigh(frames, text.words, mask)

    def _weigh(self, frames: FrameFeatures, words: Tensor, mask: Tensor | None) -> Tensor:
        return frame_saliency(normalize(frames.embeds, dim=-1), words, self.config.temperature, mask, cosine=True)

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Pool the frames: (B, K, D) weighed per candidate (eq. 7), or their mean (B, D).

        With `chinese_word_weights`, (B, K, 2 * D): the frames weighed by English words, and by Chinese ones.
        """
        weights = self.saliency(frames, text)
        if weights is None:
            return self.embed_video(frames)
        video = self._pool(frames, weights)
        if self.config.chinese_word_weights:
            chinese = self._pool_by_chinese(frames, text.branches or {}, video)
            video = torch.cat([video, chinese], -1)
        return video

    def embed_video(self, frames: FrameFeatures) -> Tensor:
        """Average the frames: (B, D), not unit length."""
        return frames.embeds.mean(1)

    def _pool_by_chinese(self, frames: FrameFeatures, branches: dict[str, Tensor], english: Tensor) -> Tensor:
        """Pool the frames by Chinese words, or by English ones (B, K, D) for candidates without a name."""
        if "chinese_words" not in branches:
            return english
        words = branches["chinese_words"].transpose(0, 1)
        if "chinese_word_mask" in branches:
            present = branches["chinese_word_mask"][..., 0].T > 0
        else:  # features saved before there was a mask: padding is zero
            present = words.abs().sum(-1) > 0
        named = present.any(-1, keepdim=True)
        return torch.where(named, self._pool(frames, self._weigh(frames, words, present | ~named)), english)

    def _pool(self, frames: FrameFeatures, weights: Tensor) -> Tensor:
        video = torch.einsum("bkt,btd->bkd", weights, normalize(frames.embeds, dim=-1))
        return normalize(video, dim=-1) if self.config.renormalize_video else video

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Score the pooled video with each candidate: the cosine of a mean; the product of a weighed video."""
        if video.ndim == 2:
            return super().match(video, text)
        return torch.einsum("bkd,kd->bk", video[..., : self.frame_width], ensemble(text.embeds))

    def _vote_in_chinese(self, video: Tensor, english: Tensor, text: TextFeatures) -> Tensor:
        """Score the video that Chinese words weigh, if they do: (B, K)."""
        chinese = video[..., self.frame_width :] if self.config.chinese_word_weights else video
        return super()._vote_in_chinese(chinese, english, text)

    def scale_votes(self, votes: dict[str, Tensor], video: Tensor | None, text: TextFeatures) -> dict[str, Tensor]:
        """Divide the scores of the names in both languages by the temperature; attributes have their own factor."""
        scale = self.logit_scale.new_tensor(1 / self.config.temperature)
        scaled = super().scale_votes(votes, video, text)
        scaled.update({name: scale * vote for name, vote in votes.items() if name != "attributes"})
        return scaled

    def criterion(self, logits: Tensor, match: Tensor) -> Tensor:
        """Compute the symmetric loss between videos and candidates (eq. 15-16), or another if `loss_targets` says so."""
        if self.config.loss == "symmetric_kl" and self.config.loss_targets == "uniform":
            return symmetric_cross_entropy(logits, match)
        return super().criterion(logits, match)

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Return CLIP and the Chinese tower: only the prompts and their networks are trained."""
        if self.config.train_branch == "attributes":
            return super().frozen_prefixes()
        text = ("text_model.encoder.", "text_model.final_layer_norm.", "text_projection.", "logit_scale")
        tables = ("text_model.embeddings.token_embedding.", "text_model.embeddings.position_embedding.")
        vision = ("vision_model.", "visual_projection.")
        prompted = self.prompts.layers if self.prompts is not None and self.config.freeze_cls_proj else ()
        projections = (f"prompts.layers.{layer}.class_projection." for layer in prompted)
        return (*super().frozen_prefixes(), *vision, *text, *tables, *projections)
