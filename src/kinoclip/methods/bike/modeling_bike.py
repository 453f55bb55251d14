"""BIKE: Bidirectional Cross-Modal Knowledge Exploration for Video Recognition with Pre-trained Vision-Language Models.

Wenhao Wu, Xiaohan Wang, Haipeng Luo, Jingdong Wang, Yi Yang, Wanli Ouyang; CVPR 2023; https://arxiv.org/abs/2301.00182.

A video branch weighs the frames by how well they match the words of each candidate (Video Concept Spotting) and matches
the weighed video with the candidate's sentence. An attributes branch describes the video by phrases of a lexicon that
CLIP finds in it (Video-Attributes Association), and matches that sentence with the candidate. Both vote.

Differences from the official code
- Logits are multiplied by `exp(logit_scale)` at test time too, so that softmax gives usable probabilities. The official
  test scripts take the softmax of the unscaled scores (`output.votes`); those rules are in `kinoclip.evaluation`.
- Both branches live in one model; `train_branch` says which one trains. The official code trains two models in turn.
- Several templates per candidate are averaged; the official code knows one.

Differences from the paper (the code made the numbers, so it is the default)
- Saliency averages over all 77 positions of the text, not the label's words (`saliency_words="label"`).
- It uses cosines (`normalize_saliency=False` for eq. 3), and the weighed video keeps its length (`normalize_video`).
- The loss has soft targets `softmax(10 * match)` (`loss_targets="uniform"` for eq. 7-8), and a learned scale.
- The attributes encoder is frozen; two small MLPs on top of it are trained.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPTextModel
from transformers import initialization as init

from kinoclip.clip_recognizer import ClipRecognizer, ensemble
from kinoclip.components.saliency import frame_saliency
from kinoclip.components.temporal_transformer import TemporalTransformer
from kinoclip.losses import symmetric_cross_entropy, symmetric_kl
from kinoclip.outputs import FrameFeatures, TextFeatures

from .configuration_bike import BikeConfig


class AttributesBranch(nn.Module):
    """Match the sentence of a video's attributes with the candidates.

    Source: BIKE sec. 2.2; official `modules/video_clip.py`, `sentence_text_logit`.
    """

    def __init__(self, config: BikeConfig):
        super().__init__()
        width = config.projection_dim
        if config.attributes == "own":
            width = config.attribute_projection_dim or width
            self.text_model = CLIPTextModel._from_config(config.attribute_text_config)
            self.text_projection = nn.Linear(config.attribute_text_config.hidden_size, width, bias=False)
        if config.attribute_head == "mlp":
            self.sentence_fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            self.query_fc = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            self.logit_scale = nn.Parameter(torch.tensor(float(config.logit_scale_init_value)))
        else:
            self.sentence_fc = self.query_fc = nn.Identity()
            self.logit_scale = None  # untrained, the branch counts as CLIP does

    def encode(self, input_ids: Tensor) -> Tensor:
        """Encode texts (N, L) with the branch's own tower: (N, E), not unit length."""
        return self.text_projection(self.text_model(input_ids=input_ids).pooler_output)

    def forward(self, sentences: Tensor, candidates: Tensor) -> Tensor:
        """Score attribute sentences (B, E) against candidates (K, E), unscaled: (B, K)."""
        sentences = normalize(self.sentence_fc(normalize(sentences, dim=-1)), dim=-1)
        return sentences @ normalize(self.query_fc(normalize(candidates, dim=-1)), dim=-1).T


class BikeModel(ClipRecognizer):
    """BIKE: frames weighed by the words of each candidate, and a second vote from attributes."""

    config: BikeConfig
    config_class = BikeConfig
    branch_inputs: ClassVar[tuple[str, ...]] = ("attribute_input_ids",)

    def __init__(self, config: BikeConfig):
        super().__init__(config)
        self.temporal_head = None
        if config.temporal_head == "transformer":
            shape = TemporalTransformer.derive_config(
                config.text_config, config.projection_dim, config.temporal_layers, config._attn_implementation
            )
            self.temporal_head = TemporalTransformer._from_config(shape)
        self.attributes = None if config.attributes == "none" else AttributesBranch(config)
        self.post_init()

    @property
    def reads_words(self) -> bool:
        """Whether saliency or recognition needs every position of the text."""
        config = self.config
        weighs_by_words = config.interaction == "saliency" and config.saliency_query == "words"
        return weighs_by_words or config.recognition_query == "words"

    def encode_text(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, word_mask: Tensor | None = None
    ) -> TextFeatures:
        """Encode the candidates, for the attributes branch too where it has its own tower."""
        features = super().encode_text(input_ids, attention_mask, word_mask)
        if self.config.attributes == "own":
            embeds = self.attributes.encode(input_ids.flatten(0, 1)).unflatten(0, input_ids.shape[:2])
            features.branches = {"attributes": embeds}
        return features

    def contextualize(self, frames: FrameFeatures) -> Tensor:
        """Give the frames (B, T, D) after the temporal head."""
        return frames.embeds if self.temporal_head is None else self.temporal_head(frames.embeds)

    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor | None:
        """Tell how much each frame counts for each candidate: (B, K, T), or None where frames are averaged.

        Raises:
            ValueError: the label's words are asked for, but the features do not say which they are.
        """
        if self.config.interaction == "mean":
            return None
        return self._saliency(self.contextualize(frames), text)

    def _saliency(self, embeds: Tensor, text: TextFeatures) -> Tensor:
        queries = text.words
        if self.config.saliency_query == "sentence":
            queries = text.embeds.transpose(0, 1)
        if self.config.normalize_saliency:
            embeds, queries = normalize(embeds, dim=-1), normalize(queries, dim=-1)
        mask = None
        if self.config.saliency_query == "words" and self.config.saliency_words == "label":
            mask = text.word_mask
            if mask is None:
                raise ValueError('saliency_words="label" needs `word_mask`: make the inputs with the BIKE processor.')
        return frame_saliency(embeds, queries, self.config.saliency_temperature, mask)

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Pool the frames: (B, K, D) weighed per candidate, or their mean (B, D)."""
        embeds = self.contextualize(frames)
        if self.config.interaction == "mean":
            return embeds.mean(1)
        video = torch.einsum("bkt,btd->bkd", self._saliency(embeds, text), normalize(embeds, dim=-1))
        return normalize(video, dim=-1) if self.config.normalize_video else video

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Score the pooled video with each candidate: a cosine after the mean; after saliency its length counts."""
        candidates = ensemble(text.embeds)
        if self.config.recognition_query == "words":
            candidates = normalize(text.words, dim=-1).mean(1)
        if video.ndim == 2:
            return normalize(video, dim=-1) @ candidates.T
        return torch.einsum("bkd,kd->bk", video, candidates)

    def branches(
        self, video: Tensor | None, text: TextFeatures, attribute_input_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Vote by video, and by attributes when their sentence (B, L) is given.

        Raises:
            ValueError: a sentence is given to a model without an attributes branch, or the text tower it needs is gone,
                or the text features are another model's.
        """
        votes = super().branches(video, text)
        if attribute_input_ids is None:
            return votes
        if self.attributes is None:
            raise ValueError('This BIKE has no attributes branch. Build it with attributes="shared" or "own".')
        if self.config.attributes == "own":
            if text.branches is None:
                raise ValueError("These text_features lack the attributes branch. Make them with this model.")
            sentences, candidates = self.attributes.encode(attribute_input_ids), text.branches["attributes"]
        else:
            sentences, candidates = super().encode_text(attribute_input_ids[None]).embeds[0], text.embeds
        votes["attributes"] = self.attributes(sentences, ensemble(candidates))
        return votes

    def used_branch_inputs(self) -> tuple[str, ...]:
        """Attributes can be used where there is a branch for them."""
        return () if self.attributes is None else self.branch_inputs

    def scales(self) -> dict[str, Tensor]:
        """Give the learned factor of each branch."""
        scales = super().scales()
        if self.attributes is not None:
            trained = self.attributes.logit_scale
            scales["attributes"] = scales["video"] if trained is None else trained.exp()
        return scales

    def criterion(self, logits: Tensor, match: Tensor) -> Tensor:
        """Give the symmetric loss between videos and candidates (eq. 7-8), or cross-entropy if the config says so."""
        if self.config.loss != "symmetric_kl":
            return super().criterion(logits, match)
        if self.config.loss_targets == "uniform":
            return symmetric_cross_entropy(logits, match)
        return symmetric_kl(logits, match, use_dual_softmax=self.config.dual_softmax)

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Name what the official training keeps: the text tower, and the branch that is not being trained."""
        text = ("text_model.", "text_projection.", "attributes.text_model.", "attributes.text_projection.")
        if self.config.train_branch == "attributes":
            return (*text, "vision_model.", "visual_projection.", "temporal_head.", "logit_scale")
        return ("attributes.", *(text if self.config.freeze_text else ()))

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, AttributesBranch):
            if module.logit_scale is not None:
                init.constant_(module.logit_scale, self.config.logit_scale_init_value)
            if self.config.attributes == "own":
                init.normal_(module.text_projection.weight, std=self.config.initializer_range)
            for layer in (*module.sentence_fc.children(), *module.query_fc.children()):
                if isinstance(layer, nn.Linear):
                    init.normal_(layer.weight, std=self.config.initializer_range)
                    init.zeros_(layer.bias)
