"""ALT: Align before Adapt: Leveraging Entity-to-Region Alignments for Generalizable Video Action Recognition.

Yifei Chen, Dapeng Chen, Ruijin Liu, Sai Zhou, Wenyuan Xue, Wei Peng; CVPR 2024; https://arxiv.org/abs/2311.15619.

Patches of a frame merge to regions inside CLIP's vision tower. Each region, and the frame as a whole, is assigned the nearest
entity of a text corpus (body parts, objects, scenes, motions). The entities of a frame are reduced to one query. A small decoder
with cross-attention from the queries to the frames computes the video embedding, which is matched with the candidates.

The authors published no code. What the paper leaves open, and the choices made:
- Width. Alignment and decoder have the width of the shared space; with the width of the vision tower, for which the paper
  uses the same letter, no design comes near to the printed parameter counts.
- Region projection. Regions have a norm and a matrix of their own, initially copies of CLIP's, so that they start in the
  space of the text (`region_projection="shared"` uses CLIP's own).
- Decoder. Each of its three parts is a pre-norm residual with an MLP behind it, the convolution is depthwise: 124.42 M
  parameters where the paper prints 124.6 (B/16), 427.63 where it prints 427.1 (L/14), and Table 7's 38, 42, 45, 49 M trained
  ones. `conv_groups`, `conv_kernel`, `conv_ffn`, `decoder_ffn_after_self`, `mlp_ratio`, `align_mlp_ratio`, `head_mlp_ratio` are
  the other designs that were counted.
- Initialization. Decoder and MLPs keep the variance (normal, fan-in): the neighbors of a frame must weigh as much as the frame
  itself, or the order of frames is not learned.
- From n tokens to a query. One learned weight for each token, at first a mean, then an MLP (`token_reduction`,
  `align_mlp_first`).
- Logits are cosines times CLIP's scale, which is not trained (`normalize_logits=False` for eq. 10 as printed).
- Templates. ActionCLIP's 16, averaged; "handcraft templates (Ni et al.)" are nowhere listed, and X-CLIP's code has none.
- The size of the corpus is not printed (`corpus_size`), nor the text of an entity: "unit: description".
- Activations are CLIP's; the norm before pooling, and no positions (`temporal_position_embedding`), are assumptions.
- Table 7 combines temporal adapters and merging without a rule for merged tokens, see `adapters.py`.

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

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.modeling_clip import eager_attention_forward

from kinoclip.methods.alt.adapters import AdaptedLayer, Adapter
from kinoclip.methods.alt.configuration_alt import AltConfig, AltProcessor
from kinoclip.modeling.clip_recognizer import TEXT_TOWER, ClipRecognizer
from kinoclip.modeling.layers.temporal_transformer import stretch_table
from kinoclip.modeling.layers.text_features import apply_rows, classifier_rows, ensemble
from kinoclip.modeling.layers.token_merging import encode_images, merge_tokens_in
from kinoclip.modeling.losses import cross_entropy
from kinoclip.modeling.outputs import Explanation, FrameFeatures, TextFeatures
from kinoclip.text.entities import Entity, entity_ids, load_corpus

_HEAD_WIDTH = 64
_ADAPTERS = ("S", "SM", "STM")
_NO_CORPUS = (
    "This AltModel has no corpus to align frames with. Set one, such as "
    '`model.set_corpus("kinetics400", processor=processor)`, or build the model with query_source="learned".'
)


class Mlp(nn.Module):
    """Two linear layers, the inner one `ratio` times as wide."""

    def __init__(self, config: AltConfig, ratio: int):
        super().__init__()
        width = config.projection_dim
        self.fc1 = nn.Linear(width, ratio * width)
        self.activation = ACT2FN[config.vision_config.hidden_act]
        self.fc2 = nn.Linear(ratio * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform each token: (..., E)."""
        return self.fc2(self.activation(self.fc1(tokens)))


def compare_entities(tokens: Tensor, corpus: Tensor) -> Tensor:
    """Compute the cosine of each token (..., E) and entity (K, E): (..., K)."""
    return normalize(tokens, dim=-1) @ normalize(corpus, dim=-1).T


def assign_entities(scores: Tensor, temperature: float, *, noise: bool = False, hard: bool = True) -> Tensor:
    """Assign each token to the entities: scores (..., K), divided by the temperature -> (..., K), sums to one.

    `noise` adds Gumbel noise. `hard` assigns to the best entity only, with the gradient of the soft assignment
    (straight-through).

    Source: ALT eq. 4-5.
    """
    scaled = scores.float() / temperature
    if noise:
        scaled = scaled - torch.empty_like(scaled).exponential_().log()
    soft = scaled.softmax(-1)
    if hard:
        best = torch.zeros_like(soft).scatter(-1, soft.argmax(-1, keepdim=True), 1)
        soft = best + (soft - soft.detach())
    return soft.to(scores.dtype)


class RegionProjection(nn.Module):
    """Projection from the vision tower to the shared space, as CLIP's for the class token."""

    def __init__(self, config: AltConfig):
        super().__init__()
        vision = config.vision_config
        self.norm = nn.LayerNorm(vision.hidden_size, eps=vision.layer_norm_eps)
        self.projection = nn.Linear(vision.hidden_size, config.projection_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Project (..., D) to (..., E)."""
        return self.projection(self.norm(tokens))


class TokenReduction(nn.Module):
    """Reduce the entities of a frame to one query (eq. 6)."""

    def __init__(self, config: AltConfig):
        super().__init__()
        self.mlp_first = config.align_mlp_first
        self.weights = nn.Linear(config.aligned_tokens, 1) if config.learns_reduction else None
        self.mlp = Mlp(config, config.align_mlp_ratio)

    def forward(self, entities: Tensor, sizes: Tensor | None) -> Tensor:
        """Reduce (B, T, n, E) to (B, T, E); a weighted mean needs `sizes` (B, T, n), the patches of each token."""
        if self.mlp_first:
            return self._reduce(self.mlp(entities), sizes)
        return self.mlp(self._reduce(entities, sizes))

    def _reduce(self, entities: Tensor, sizes: Tensor | None) -> Tensor:
        if self.weights is not None:
            return self.weights(entities.transpose(2, 3))[..., 0]
        if sizes is not None:
            return (entities * sizes[..., None]).sum(2) / sizes.sum(2)[..., None]
        return entities.mean(2)


def count_patches(tokens: Tensor, regions: Tensor | None) -> Tensor:
    """Count the patches of each token (B, T, n, E): (B, T, n); the class token is first and counts once."""
    counts = torch.ones_like(tokens[..., 0])
    if regions is None or tokens.shape[2] == 1:
        return counts
    return counts.index_fill(2, torch.arange(1, counts.shape[2], device=counts.device), 0).scatter_add(
        2, regions + 1, torch.ones_like(regions, dtype=counts.dtype)
    )


class ResidualMlp(Mlp):
    """A pre-norm MLP with a residual."""

    def __init__(self, config: AltConfig):
        super().__init__(config, config.mlp_ratio)
        self.norm = nn.LayerNorm(config.projection_dim, eps=config.vision_config.layer_norm_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform each token: (..., E)."""
        return tokens + super().forward(self.norm(tokens))


class Attention(nn.Module):
    """Cross-attention, or self-attention, with heads of 64 channels."""

    is_causal = False

    def __init__(self, config: AltConfig):
        super().__init__()
        width = config.projection_dim
        self.config = config
        self.num_heads = max(1, width // _HEAD_WIDTH)
        self.scale = (width // self.num_heads) ** -0.5
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(width, width) for _ in range(4))

    def forward(self, queries: Tensor, context: Tensor, weigh: bool = False) -> tuple[Tensor, Tensor | None]:
        """Attend to the context: (B, T, E), and with `weigh` the attention weights (B, H, T, T')."""
        implementation = "eager" if weigh else self.config._attn_implementation
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
        heads = [
            projected.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projected in (self.q_proj(queries), self.k_proj(context), self.v_proj(context))
        ]
        attended, weights = attend(self, *heads, None, scaling=self.scale, dropout=0.0)
        return self.out_proj(attended.flatten(2)), weights


class DecoderLayer(GradientCheckpointingLayer):
    """A block of the decoder: convolution over frames, self-attention of queries, cross-attention."""

    def __init__(self, config: AltConfig):
        super().__init__()
        width, eps = config.projection_dim, config.vision_config.layer_norm_eps
        self.conv = self.conv_mlp = self.self_attn = self.self_mlp = None
        if config.decoder_conv:
            groups = width if config.conv_groups == "depthwise" else 1
            padding = config.conv_kernel // 2
            self.conv = nn.Conv1d(width, width, config.conv_kernel, padding=padding, groups=groups)
            self.conv_mlp = ResidualMlp(config) if config.conv_ffn else nn.Identity()
        if config.decoder_self_attention:
            self.self_norm = nn.LayerNorm(width, eps=eps)
            self.self_attn = Attention(config)
            self.self_mlp = ResidualMlp(config) if config.decoder_ffn_after_self else nn.Identity()
        self.query_norm = nn.LayerNorm(width, eps=eps)
        self.frame_norm = nn.LayerNorm(width, eps=eps)
        self.cross_attn = Attention(config)
        self.cross_mlp = ResidualMlp(config)

    def forward(self, queries: Tensor, frames: Tensor, weigh: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the queries (B, T, E), and with `weigh` the weights of their cross-attention (B, H, T, T)."""
        if self.conv is not None:
            frames = self.conv_mlp(frames + self.conv(frames.transpose(1, 2)).transpose(1, 2))
        if self.self_attn is not None:
            normed = self.self_norm(queries)
            queries = self.self_mlp(queries + self.self_attn(normed, normed)[0])
        attended, weights = self.cross_attn(self.query_norm(queries), self.frame_norm(frames), weigh)
        return self.cross_mlp(queries + attended), weights


class VideoDecoder(nn.Module):
    """The video decoder (eq. 8): cross-attention of the queries to frames, and the norm before queries are averaged."""

    def __init__(self, config: AltConfig):
        super().__init__()
        width = config.projection_dim
        self.position_embedding = None
        if config.temporal_position_embedding:
            self.position_embedding = nn.Embedding(config.num_frames, width)
        self.layers = nn.ModuleList([DecoderLayer(config) for _ in range(config.decoder_layers)])
        self.norm = nn.LayerNorm(width, eps=config.vision_config.layer_norm_eps)

    def forward(self, queries: Tensor, frames: Tensor, weights: list[Tensor] | None = None) -> Tensor:
        """Return the queries (B, T, E) after all blocks, which attend to the same frames (B, T, E).

        The cross-attention (B, T) of each block, averaged over heads and queries, is appended to `weights`.
        """
        if self.position_embedding is not None:
            positions = stretch_table(self.position_embedding.weight, frames.shape[1]).to(frames.dtype)
            queries, frames = queries + positions, frames + positions
        for layer in self.layers:
            queries, attention = layer(queries, frames, weights is not None)
            if weights is not None:
                weights.append(attention.mean((1, 2)))
        return self.norm(queries)


class AltModel(ClipRecognizer):
    """ALT: frames are aligned with entities of a text corpus, which are the queries of a decoder."""

    config: AltConfig
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
        """Set the entities that frames are aligned with; a trained model accepts other ones.

        Args:
            entities: the name or file of a corpus for `kinoclip.text.entities.load_corpus`, entities, or plain texts; if
                `corpus_categories` is set, only those are used.
            embeds: (K, E), the features of all entities, if they are known.
            processor: the model's, to encode the entities if they are not.

        Raises:
            ValueError: entities are missing or duplicated; neither features nor a processor; or this model does not align.
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
                raise ValueError("Pass the processor that encodes the entities, or their features (K, E).")
            with torch.no_grad():
                embeds = self.encode_text(processor.encode_entities(chosen)["input_ids"].to(self.device)).embeds[0]
        elif embeds.shape != (len(entities), self.frame_width):
            shape = (len(entities), self.frame_width)
            raise ValueError(f"The features of these entities must have shape {shape}, got {tuple(embeds.shape)}.")
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
        """The entities that frames are aligned with, or their names if only these are known; None without a corpus."""
        if self.config.corpus_entities is None:
            return self.config.corpus
        return [Entity(**fields) for fields in self.config.corpus_entities]

    @property
    def encodes_frames_alone(self) -> bool:
        """Whether the tower has no temporal adapter."""
        return self.config.train_encoder != "STM"

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame: embeds (B, T, E), the aligned regions (B, T, M, E), and the region of each patch."""
        shape = pixel_values_videos.shape[:2]
        options = {"num_frames": shape[1]} if self.config.train_encoder in _ADAPTERS else {}
        options["class_token_only"] = not self.config.aligns_regions
        images = encode_images(self.vision_model, pixel_values_videos.flatten(0, 1), **options)
        frames = FrameFeatures(embeds=self.visual_projection(images.pooler_output).unflatten(0, shape))
        if images.regions is not None:
            frames.regions = images.regions.unflatten(0, shape)
        if self.config.aligns_regions:
            tokens = images.last_hidden_state[:, 1:]
            if self.region_projection is not None:
                projected = self.region_projection(tokens)
            else:
                projected = self.visual_projection(self.vision_model.post_layernorm(tokens))
            frames.tokens = projected.unflatten(0, shape)
        return frames

    def _aligned_tokens(self, frames: FrameFeatures) -> Tensor:
        """Return the aligned tokens of each frame, the class token first: (B, T, n, E)."""
        if self.config.corpus is None and not self.corpus.is_meta:  # operations are counted without a corpus
            raise ValueError(_NO_CORPUS)
        if not self.config.aligns_regions:
            return frames.embeds[:, :, None]
        if frames.tokens is None:
            raise ValueError("frame_features lack the regions of the frames. Encode the frames with this model.")
        return torch.cat([frames.embeds[:, :, None], frames.tokens], 2)

    def _query(self, frames: FrameFeatures) -> Tensor:
        """Compute one query for each frame: (B, T, E)."""
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
        """Find the entity of each region (B, T, M), an index into `config.corpus`, and its cosine (B, T, M).

        M is 1 if regions are not aligned: the entity of the frame as a whole.
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
        """Collect the entity of each region too; without merging each patch is a region."""
        explanation = super().explain(frames, text, pixel_values_videos)
        if self.config.aligns:
            explanation.entities, explanation.entity_scores = self.align(frames)
            explanation.entity_names = number_repeats(self.config.corpus)
            if self.config.aligns_regions and explanation.regions is None:
                patches = torch.arange(explanation.entities.shape[2], device=self.device)
                explanation.regions = self._split_rows(patches.expand_as(explanation.entities))
        return explanation

    def aggregate(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Decode the frames with the queries and pool the queries: (B, E), not unit length."""
        return self.head(self.decoder(self._query(frames), frames.embeds).mean(1))

    @torch.no_grad()
    def saliency(self, frames: FrameFeatures, text: TextFeatures) -> Tensor:
        """Compute the attention of the queries to each frame, the same for all candidates: (B, K, T)."""
        weights: list[Tensor] = []
        self.decoder(self._query(frames), frames.embeds, weights)
        return torch.stack(weights).mean(0)[:, None].expand(-1, text.embeds.shape[1], -1)

    def candidates(self) -> TextFeatures | None:
        """Return the candidates that the checkpoint carries: the rows of the linear probe, if there is one."""
        return super().candidates() if self.classifier is None else classifier_rows(self.classifier)

    def match(self, video: Tensor, text: TextFeatures) -> Tensor:
        """Score each video (B, E) and candidate by their cosine, their product, or the linear probe: (B, K)."""
        if self.classifier is not None:
            return apply_rows(video, text)
        if self.config.normalize_logits:
            return super().match(video, text)
        return video @ ensemble(text.embeds).T

    def scale_votes(self, votes: dict[str, Tensor], video: Tensor | None, text: TextFeatures) -> dict[str, Tensor]:
        """Scale cosines as CLIP does; products and the scores of a linear probe are logits."""
        scaled = super().scale_votes(votes, video, text)
        if video is not None and (self.classifier is not None or not self.config.normalize_logits):
            scaled["video"] = votes["video"]
        return scaled

    def criterion(self, logits: Tensor, match: Tensor) -> Tensor:
        """Compute the loss against `match` (B, K), whose rows may be mixtures of several videos' labels."""
        if self.training and self.config.loss == "cross_entropy":
            return cross_entropy(logits, match, self.config.label_smoothing)
        return super().criterion(logits, match)

    def frozen_prefixes(self) -> tuple[str, ...]:
        """Return the text tower, and what `train_encoder` or the linear probe freezes."""
        names = [name for name, _ in self.named_parameters()]
        if self.config.linear_probe:
            return tuple(name for name in names if not name.startswith("classifier."))
        frozen = [*super().frozen_prefixes(), *TEXT_TOWER]
        if not (self.config.train_logit_scale and self.config.normalize_logits):
            frozen.append("logit_scale")
        if self.config.train_encoder != "full":
            towers = ("vision_model.", "visual_projection.")
            frozen += [name for name in names if name.startswith(towers) and ".adapters." not in name]
        return tuple(frozen)

    @torch.no_grad()
    def initialize_weights(self) -> None:
        """Initialize the modules with special initial values; loaded weights stay."""
        super().initialize_weights()
        for module in self.modules():
            if isinstance(module, Mlp | Attention | DecoderLayer):
                for layer in module.children():
                    if isinstance(layer, nn.Linear | nn.Conv1d):  # its output varies as much as its input
                        init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
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
    """Make names unique: checkpoints of earlier versions have duplicates.

    >>> number_repeats(["bow", "hand", "bow"])
    ['bow', 'hand', 'bow (2)']
    """
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique
