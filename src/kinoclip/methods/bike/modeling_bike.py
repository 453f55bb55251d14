"""BIKE: Bidirectional Cross-Modal Knowledge Exploration for Video Recognition with Pre-trained Vision-Language Models.

Wenhao Wu, Xiaohan Wang, Haipeng Luo, Jingdong Wang, Yi Yang, Wanli Ouyang; CVPR 2023; https://arxiv.org/abs/2301.00182.

A video branch weighs the frames by how well they match the words of each candidate (Video Concept Spotting) and matches
the weighed video with the candidate's sentence. An attributes branch describes the video by phrases of a lexicon that
CLIP finds in it (Video-Attributes Association), and matches that sentence with the candidate. The votes are fused.

Differences from the official code
- Logits are multiplied by `exp(logit_scale)` at test time too, so that softmax gives usable probabilities. The official
  test scripts take the softmax of the unscaled scores (`output.votes`); those rules are in `kinoclip.evaluation`.
- Both branches are in one model; `train_branch` selects the one that is trained. The official code trains two models in turn.
- Several templates per candidate are averaged; the official code has one.

Differences from the paper (the code made the numbers, so it is the default; `BikeConfig.strict_settings` is the paper)

| paper | field | default | strict |
|---|---|---|---|
| eq. 5: average over the words of the label | `saliency_words` | "all" 77 positions | "label" |
| eq. 5-6: raw products of frames and words, raw frames pooled | `normalize_saliency` | True | False |
| eq. 2: cosine of video and category | `normalize_video` | False, the pooled video keeps its length | True |
| eq. 7-8: target shared equally by the matches | `loss_targets` | "softmax" of ten times the matches | "uniform" |
| eq. 4: weighted mean of the scores | `fusion_rule` | "probabilities" | "scores" |
| eq. 3: the attributes encoder is fine-tuned | `freeze_attribute_text` | True | False, where `attributes="own"` |

- Two small MLPs on top of the attributes encoder are trained (`attribute_head="none"` for none, as the paper has it).
- The scale of the logits is learned from 1 / 0.01 on; the paper keeps it.
- `train_branch="both"` is eq. 9; paper and code train one branch after the other.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from kinoclip.methods.bike.configuration_bike import BikeConfig
from kinoclip.modeling.clip_recognizer import ClipRecognizer
from kinoclip.modeling.layers.saliency import frame_saliency
from kinoclip.modeling.layers.temporal_transformer import TemporalTransformer
from kinoclip.modeling.layers.text_features import ensemble
from kinoclip.modeling.losses import symmetric_cross_entropy, symmetric_kl
from kinoclip.modeling.outputs import FrameFeatures, TextFeatures


class BikeModel(ClipRecognizer):
    """BIKE: frames are weighed by the words of each candidate; attributes vote too."""

    config: BikeConfig

    def __init__(self, config: BikeConfig):
        super().__init__(config)
        if config.temporal_head == "transformer":
            self.temporal_head = TemporalTransformer.for_config(config)
        self.post_init()

    @property
    def reads_words(self) -> bool:
        """Whether saliency or recognition needs every position of the text."""
        config = self.config
        weighs_by_words = config.interaction == "saliency" and config.saliency_query == "words"
        return weighs_by_words or config.recognition_query == "words"

    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor | None:
        """Compute the weight of each frame for each candidate: (B, K, T), or None where frames are averaged."""
        if self.config.interaction == "mean":
            return None
        return self._saliency(self._frames(frames), text)

    def _saliency(self, embeds: Tensor, text: TextFeatures) -> Tensor:
        queries = text.words
        if self.config.saliency_query == "sentence":
            queries = text.embeds.transpose(0, 1)
        cosine = self.config.normalize_saliency
        mask = self._label_words(text) if self.config.saliency_query == "words" else None
        return frame_saliency(embeds, queries, self.config.saliency_temperature, mask, cosine=cosine)

    def _label_words(self, text: TextFeatures) -> Tensor | None:
        """Return which positions (K, L) of the text are read; None for all."""
        if not self.config.reads_label_words:
            return None
        if text.word_mask is None:
            raise ValueError('saliency_words="label" needs `word_mask`: make the inputs with the BIKE processor.')
        return text.word_mask

    def _frames(self, frames: FrameFeatures) -> Tensor:
        """Return the frames (B, T, D) that are weighed, of unit length if `normalize_saliency`."""
        embeds = self.contextualize(frames)
        return normalize(embeds, dim=-1) if self.config.normalize_saliency else embeds

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Pool the frames: (B, K, D) weighed per candidate (eq. 5-6), or their mean (B, D)."""
        if self.config.interaction == "mean":
            return self.embed_video(frames)
        embeds = self._frames(frames)
        video = torch.einsum("bkt,btd->bkd", self._saliency(embeds, text), embeds)
        return normalize(video, dim=-1) if self.config.normalize_video else video

    def embed_video(self, frames: FrameFeatures) -> Tensor:
        """Average the frames: (B, D), not unit length."""
        return self.contextualize(frames).mean(1)

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Score the pooled video with each candidate: the cosine of a mean; the product of a weighed video."""
        candidates = ensemble(text.embeds)
        if self.config.recognition_query == "words" and text.words is not None:
            words, mask = normalize(text.words, dim=-1), self._label_words(text)
            candidates = words.mean(1)
            if mask is not None:
                candidates = torch.einsum("kld,kl->kd", words, (mask / mask.sum(1, keepdim=True)).to(words))
        if video.ndim == 2:
            return normalize(video, dim=-1) @ candidates.T
        return torch.einsum("bkd,kd->bk", video, candidates)

    def criterion(self, logits: Tensor, match: Tensor) -> Tensor:
        """Compute the symmetric loss between videos and candidates (eq. 7-8), or cross-entropy if `loss` says so."""
        if self.config.loss != "symmetric_kl":
            return super().criterion(logits, match)
        if self.config.loss_targets == "uniform":
            return symmetric_cross_entropy(logits, match)
        return symmetric_kl(logits, match, use_dual_softmax=self.config.dual_softmax)
