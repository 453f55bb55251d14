"""ALT: Align before Adapt: Leveraging Entity-to-Region Alignments for Generalizable Video Action Recognition.

Yifei Chen, Dapeng Chen, Ruijin Liu, Sai Zhou, Wenyuan Xue, Wei Peng; CVPR 2024; https://arxiv.org/abs/2311.15619.

Patches of a frame merge to regions inside CLIP's vision tower. Each region, and the frame as a whole, takes the entity of a
text corpus (body parts, objects, scenes, motions) that is nearest to it. The entities of a frame become one query, and a small
decoder lets the queries of all frames look at the frames; what comes out is matched with the candidates.

There is no official code. What the paper leaves open, and what was chosen:
- Width. Alignment and decoder have the width of the shared space; with the width of the vision tower, for which the paper
  uses the same letter, no design comes near to the printed parameter counts.
- Region projection. Regions get a norm and a matrix of their own, which start as copies of CLIP's, so that they lie in the
  space of the text from the beginning (`region_projection="shared"` uses CLIP's own).
- Decoder. Each of its three parts is a pre-norm residual with an MLP behind it, the convolution is depthwise: 124.42 M
  parameters where the paper prints 124.6 (B/16), 427.63 where it prints 427.1 (L/14), and Table 7's 38, 42, 45, 49 M trained
  ones. `conv_groups`, `conv_kernel`, `conv_ffn`, `decoder_ffn_after_self`, `mlp_ratio`, `align_mlp_ratio`, `head_mlp_ratio` are
  the other designs that were counted.
- Start. Decoder and MLPs keep the variance (normal, fan-in): the neighbors of a frame must weigh as much as the frame itself,
  or the order of frames is not learned.
- From n tokens to a query. One learned weight for each token, at first a mean, then an MLP (`token_reduction`,
  `align_mlp_first`).
- Logits are cosines times CLIP's scale, which is not trained (`normalize_logits=False` for eq. 10 as printed).
- Templates. ActionCLIP's 16, averaged; "handcraft templates (Ni et al.)" are nowhere listed, and X-CLIP's code has none.
- The size of the corpus is not printed (`corpus_size`), nor the text of an entity: "unit: description".
- Activations are CLIP's; the norm before pooling, and no positions (`temporal_position_embedding`), are assumptions.
- Temporal adapters and merging are combined in Table 7 without a word on tokens that moved, see `adapters.py`.

Where the paper prints one thing and the default is another (`AltConfig.strict_settings` is the paper)

| paper | field | default | strict |
|---|---|---|---|
| eq. 4: softmax of the cosines themselves | `alignment_logit_scale` | 100 | 1 |
| eq. 6: a sum of the embeddings as they are | `normalize_corpus` | True | False |
| eq. 3: tokens of the tower, with no projection of their own | `region_projection` | "separate" | "shared" |
| eq. 8: self-attention alone | `decoder_ffn_after_self` | True | False |
| eq. 8: X + Conv(X) alone | `conv_ffn` | True | False |
| eq. 10: plain products | `normalize_logits` | True | False |

Not printed, and kept in both: residuals and MLPs of the decoder's cross-attention (eq. 8), the norm before the mean (eq. 9), and the
label smoothing of the loss.

Differences from the paper
- Cosines are multiplied by 100 before Gumbel noise is added (`alignment_logit_scale=1.0` for eq. 4 as printed). Cosines of
  regions and entities differ by tenths and the noise by ones: with 2,000 entities the nearest one is chosen in 0.05 % of cases.
- The noise is drawn for each token and entity, as the text says; eq. 4 has one number for each entity.
- Eq. 6 uses the hard assignment of eq. 5; it prints the soft one (`hard_assignment=False`).
- Without gradients the nearest entity is looked up, without noise, which is the same number for fewer operations.
- Label smoothing belongs to the loss, in training; give mixed labels (B, K) without it.
- The first row of Table 5 is X-CLIP, another method; `align=False` is this decoder with learned queries.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize
from transformers import initialization as init

from kinoclip.clip_recognizer import ClipRecognizer
from kinoclip.components.text_features import ensemble
from kinoclip.components.token_merging import encode_images, merge_tokens_in
from kinoclip.losses import cross_entropy
from kinoclip.outputs import Explanation, FrameFeatures, TextFeatures
from kinoclip.text.entities import Entity, entity_ids, load_corpus

from .adapters import AdaptedLayer, Adapter
from .alignment import RegionProjection, TokenReduction, assign_entities, compare_entities, count_patches
from .configuration_alt import AltConfig
from .decoder import Attention, DecoderLayer, Mlp, VideoDecoder, stretch_table
from .processing_alt import AltProcessor

_ADAPTERS = ("S", "SM", "STM")
_NO_CORPUS = (
    "This AltModel has no corpus to align frames with. Set one, such as "
    '`model.set_corpus("kinetics400", processor=processor)`, or build the model with query_source="learned".'
)


class AltModel(ClipRecognizer):
    """ALT: frames are aligned with entities of a text corpus, which query them."""

    config: AltConfig
    config_class = AltConfig
    _no_split_modules = [*ClipRecognizer._no_split_modules, "AdaptedLayer"]
    corpus: Tensor

    def __init__(self, config: AltConfig):
        config.validate_alignment()  # fields may have changed since the config was made
        super().__init__(config)
        if config.train_encoder in _ADAPTERS:
            adapted = partial(AdaptedLayer, kind=config.train_encoder)
            merge_tokens_in(self.vision_model, config.merge_r, config.prop_attn, adapted)
        self.region_projection = self.token_reduction = None
        if config.aligns:
            if config.aligns_regions and config.region_projection == "separate":
                self.region_projection = RegionProjection(config)
            self.token_reduction = TokenReduction(config)
            self.register_buffer("corpus", torch.zeros(config.corpus_size, config.projection_dim))
            config.reduced_tokens = config.aligned_tokens if config.learns_reduction else None
        else:
            self.queries = nn.Parameter(torch.zeros(config.num_frames, config.projection_dim))
        self.decoder = VideoDecoder(config)
        self.head = Mlp(config, config.head_mlp_ratio)
        self.classifier = nn.Linear(config.projection_dim, config.num_labels) if config.linear_probe else None
        self.post_init()

    def set_corpus(
        self,
        entities: str | Path | Sequence[Entity | str],
        embeds: Tensor | None = None,
        *,
        processor: AltProcessor | None = None,
    ) -> Self:
        """Choose the entities that frames are aligned with; a trained model takes any others too.

        Args:
            entities: the name or file of a corpus for `kinoclip.text.entities.load_corpus`, entities, or plain texts; where
                `corpus_categories` are set, the entities of those are taken.
            embeds: (K, E), the features of all given entities, where they are known.
            processor: the model's, to encode the entities where they are not.

        Raises:
            ValueError: there are no entities, or one is given twice; neither features nor a processor; or this model does not
                align.
        """
        if not self.config.aligns:
            raise ValueError("This AltModel has learned queries and uses no corpus. Build it with align=True for one.")
        entities = load_corpus(entities) if isinstance(entities, str | Path) else entities
        wanted = self.config.corpus_categories
        taken = [i for i, e in enumerate(entities) if wanted is None or getattr(e, "category", None) in wanted]
        chosen = [entities[i] for i in taken]
        if not chosen:
            raise ValueError(f"None of {len(entities)} entities has one of the corpus_categories {wanted}.")
        ids = entity_ids(chosen)
        if embeds is None:
            if processor is None:
                raise ValueError("Give the processor that encodes the entities, or their features (K, E).")
            embeds = self.encode_corpus(chosen, processor)
        elif embeds.shape != (len(entities), self.frame_width):
            shape = (len(entities), self.frame_width)
            raise ValueError(f"The features have shape {tuple(embeds.shape)}, but these entities need {shape}.")
        else:
            embeds = embeds[taken]
        embeds = normalize(embeds, dim=-1) if self.config.normalize_corpus else embeds
        self.corpus = embeds.detach().clone().to(self.corpus)
        self.config.corpus_size = len(chosen)
        self.config.corpus = ids
        kept = ("unit", "description", "category", "source")
        described = all(isinstance(entity, Entity) for entity in chosen)
        self.config.corpus_entities = [{n: getattr(e, n) for n in kept} for e in chosen] if described else None
        return self

    @property
    def entities(self) -> Sequence[Entity | str] | None:
        """The entities that frames are aligned with, or their names where only these are known; None without a corpus."""
        if self.config.corpus_entities is None:
            return self.config.corpus
        return [Entity(**fields) for fields in self.config.corpus_entities]

    @torch.no_grad()
    def encode_corpus(self, entities: Sequence[Entity | str], processor: AltProcessor) -> Tensor:
        """Encode entities with CLIP's text tower: (K, E)."""
        ids = processor.encode_entities(entities)["input_ids"].to(self.device)
        return self.encode_text(ids).embeds[0]

    @property
    def encodes_frames_alone(self) -> bool:
        """Whether no adapter looks at the frames beside."""
        return self.config.train_encoder != "STM"

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame: embeds (B, T, E), the regions that are aligned (B, T, M, E), and where they are."""
        shape = pixel_values_videos.shape[:2]
        options = {"num_frames": shape[1]} if self.config.train_encoder in _ADAPTERS else {}
        options["class_token_only"] = not self.config.aligns_regions
        images = encode_images(self.vision_model, pixel_values_videos.flatten(0, 1), **options)
        frames = FrameFeatures(embeds=self.visual_projection(images.pooler_output).unflatten(0, shape))
        if images.regions is not None:
            frames.regions = images.regions.unflatten(0, shape)
        if self.config.aligns_regions:
            frames.tokens = self._project_regions(images.last_hidden_state[:, 1:]).unflatten(0, shape)
        return frames

    def _project_regions(self, tokens: Tensor) -> Tensor:
        if self.region_projection is not None:
            return self.region_projection(tokens)
        return self.visual_projection(self.vision_model.post_layernorm(tokens))

    def _aligned_tokens(self, frames: FrameFeatures) -> Tensor:
        """Give the tokens of each frame that are aligned, the class token first: (B, T, n, E)."""
        if self.config.corpus is None and not self.corpus.is_meta:  # operations are counted without a corpus
            raise ValueError(_NO_CORPUS)
        if not self.config.aligns_regions:
            return frames.embeds[:, :, None]
        if frames.tokens is None:
            raise ValueError("These frame_features lack the regions of the frames. Make them with this model.")
        return torch.cat([frames.embeds[:, :, None], frames.tokens], 2)

    def _query(self, frames: FrameFeatures) -> Tensor:
        """Give one query for each frame: (B, T, E)."""
        if not self.config.aligns:
            return stretch_table(self.queries, frames.embeds.shape[1]).expand_as(frames.embeds)
        tokens, config = self._aligned_tokens(frames), self.config
        scores = compare_entities(tokens, self.corpus)
        if config.hard_assignment and not torch.is_grad_enabled():
            entities = self.corpus[scores.argmax(-1)]
        else:
            noise = self.training and config.alignment_noise and not config.linear_probe
            temperature = config.alignment_tau / config.alignment_logit_scale
            entities = assign_entities(scores, temperature, noise=noise, hard=config.hard_assignment) @ self.corpus
        sizes = count_patches(tokens, frames.regions) if config.token_reduction == "weighted_mean" else None
        return self.token_reduction(entities, sizes)

    @torch.no_grad()
    def align(self, frames: FrameFeatures) -> tuple[Tensor, Tensor]:
        """Name the entity of each region (B, T, M), an index into `config.corpus`, and give its cosine (B, T, M).

        Where regions are not aligned, M is 1: the entity of the frame as a whole.

        Raises:
            ValueError: the model does not align, or has no corpus.
        """
        if not self.config.aligns:
            raise ValueError("This AltModel has learned queries: it aligns nothing.")
        tokens = self._aligned_tokens(frames)
        scores, entities = compare_entities(tokens[:, :, -1 if tokens.shape[2] == 1 else 1 :], self.corpus).max(-1)
        return entities, scores

    @torch.no_grad()
    def explain(
        self, frames: FrameFeatures, text: TextFeatures, pixel_values_videos: Tensor | None = None
    ) -> Explanation:
        """Give the entity of each region too; without merging each patch is a region of its own."""
        explanation = super().explain(frames, text, pixel_values_videos)
        if self.config.aligns:
            explanation.entities, explanation.entity_scores = self.align(frames)
            explanation.entity_names = number_repeats(self.config.corpus)
            if self.config.aligns_regions and explanation.regions is None:
                patches = torch.arange(explanation.entities.shape[2], device=self.device)
                explanation.regions = self._split_rows(patches.expand_as(explanation.entities))
        return explanation

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Let the queries look at the frames, and pool them: (B, E), not unit length."""
        return self.head(self.decoder(self._query(frames), frames.embeds).mean(1))

    @torch.no_grad()
    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Tell how much the queries look at each frame, the same for all candidates: (B, K, T)."""
        weights = self.decoder.weigh_frames(self._query(frames), frames.embeds)
        return weights[:, None].expand(-1, text.embeds.shape[1], -1)

    def candidates(self) -> TextFeatures | None:
        """Give the candidates that the checkpoint carries: the rows of the linear probe, if it has one."""
        if self.classifier is None:
            return super().candidates()
        return TextFeatures(
            embeds=self.classifier.weight[None], branches={"bias": self.classifier.bias[None, :, None]}
        )

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Score each video (B, E) and candidate: their cosine, or product, or what the linear probe says: (B, K).

        Raises:
            ValueError: candidates are given to a linear probe, which has its own.
        """
        if self.classifier is not None:
            if text.branches is None or "bias" not in text.branches:
                raise ValueError(
                    "The candidates of a linear probe are its own labels. Leave other labels and text out."
                )
            return linear(video, text.embeds[0], text.branches["bias"][0, :, 0])
        if self.config.normalize_logits:
            return super().match(video, text)
        return video @ ensemble(text.embeds).T

    def scales(self) -> dict[str, Tensor]:
        """Give CLIP's factor for cosines, and one for scores that are logits already."""
        scales = super().scales()
        if self.classifier is not None or not self.config.normalize_logits:
            scales["video"] = torch.ones_like(scales["video"])
        return scales

    def criterion(self, logits: Tensor, match: Tensor) -> Tensor:
        """Give the loss against `match` (B, K), whose rows may be mixtures of several videos' labels."""
        if self.training and self.config.loss == "cross_entropy":
            return cross_entropy(logits, match, self.config.label_smoothing)
        return super().criterion(logits, match)

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Name the text tower, and what `train_encoder` or the linear probe keeps as it is."""
        names = [name for name, _ in self.named_parameters()]
        if self.config.linear_probe:
            return tuple(name for name in names if not name.startswith("classifier."))
        frozen = [*super().frozen_prefixes(), "text_model.", "text_projection."]
        if not (self.config.train_logit_scale and self.config.normalize_logits):
            frozen.append("logit_scale")
        if self.config.train_encoder != "full":
            towers = ("vision_model.", "visual_projection.")
            frozen += [name for name in names if name.startswith(towers) and ".adapters." not in name]
        return tuple(frozen)

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Start what must not start at random; weights that were loaded stay."""
        super().initialize_weights()
        for module in self.modules():
            if isinstance(module, Mlp | Attention | DecoderLayer):
                _keep_variance(module)
            elif isinstance(module, Adapter):
                init.zeros_(module.up.weight)
            elif isinstance(module, TokenReduction) and module.weights is not None:
                init.constant_(module.weights.weight, 1 / module.weights.in_features)
        if hasattr(self, "queries"):
            init.normal_(self.queries, std=self.config.initializer_range)
        if getattr(self, "corpus", None) is not None:
            init.zeros_(self.corpus)
        region = getattr(self, "region_projection", None)
        if region is not None:
            init.copy_(region.norm.weight, self.vision_model.post_layernorm.weight)
            init.copy_(region.norm.bias, self.vision_model.post_layernorm.bias)
            init.copy_(region.projection.weight, self.visual_projection.weight)


def number_repeats(names: Sequence[str]) -> list[str]:
    """Make names unique: checkpoints of earlier versions name several entities alike.

    >>> number_repeats(["bow", "hand", "bow"])
    ['bow', 'hand', 'bow (2)']
    """
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _keep_variance(module: nn.Module) -> None:
    """Start the layers right inside a module so that what leaves one varies as much as what enters it."""
    for layer in module.children():
        if isinstance(layer, nn.Linear | nn.Conv1d):
            init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
