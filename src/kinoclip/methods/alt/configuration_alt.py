"""The config and the processor of ALT."""

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from torch import Tensor

from kinoclip.modeling.configuration import ClipRecognizerConfig, check_numbers
from kinoclip.modeling.layers.token_merging import count_tokens, merge_schedule
from kinoclip.modeling.processing import RecognizerProcessor
from kinoclip.text.entities import CATEGORIES, Entity
from kinoclip.text.templates import ACTIONCLIP_TEMPLATES
from kinoclip.text.tokens import tokenize_texts


@strict
class AltConfig(ClipRecognizerConfig):
    """The config of ALT: the paper's ablations (Tables 5, 7, 8, C3, C4), and what it leaves open.

    Args:
        merge_r: how many tokens merge in each layer of the vision tower (Table 8), see `merge_schedule`.
        prop_attn: let a merged token count for all its patches in attention.
        train_encoder: what `freeze()` leaves trainable of the vision tower (Table 7): "full", "frozen", or AIM's adapters:
            spatial ("S"), also MLP ("SM"), also temporal ("STM").
        linear_probe: train only a linear classifier of the video (Table 6); its rows, named in `id2label`, are the candidates.
        align: query the decoder with entities of the corpus that fit the frames; otherwise with learned queries (Table 5).
        align_regions: align the merged patches too, not the class token alone (Table 5).
        query_source: "entities" of the corpus or "learned" queries, one for each frame (Table C3, first row).
        region_projection: merged patches enter the shared space through a norm and a matrix of their own, which start as
            copies of CLIP's ("separate", which fits the printed parameter counts), or through CLIP's ("shared").
        alignment_logit_scale: multiplies the cosines before the softmax over entities.
        alignment_tau: the temperature of that softmax.
        alignment_noise: add Gumbel noise to it in training.
        hard_assignment: one entity for each token (eq. 5), or a mixture.
        token_reduction: how a frame's tokens become one: a learned weight for each ("linear"), their "mean", or a mean that
            counts patches ("weighted_mean").
        align_mlp_first: apply the MLP after alignment to each token, before the reduction.
        align_mlp_ratio: inner width of that MLP, over the shared width.
        decoder_layers: M; None is 4, or 6 on towers of 24 layers.
        decoder_self_attention: self-attention over the queries of the frames (Table C4).
        decoder_conv: convolve over the frames (Table C4).
        conv_kernel: number of frames in that convolution.
        conv_groups: channel by channel ("depthwise") or across channels ("dense").
        conv_ffn: an MLP after the convolution.
        decoder_ffn_after_self: an MLP after self-attention; that after cross-attention is always there.
        mlp_ratio: inner width of the decoder's MLPs, over the shared width.
        head_mlp_ratio: the same for the MLP of the mean query (eq. 9).
        temporal_position_embedding: add a learned vector for each frame to frames and queries.
        corpus_categories: the categories of entities that `set_corpus` uses (Table C3); None for all. With an empty list the
            queries are learned.
        normalize_corpus: normalize the entities to unit length.
        normalize_logits: match by cosine times CLIP's scale, or by the plain product.
        label_smoothing: in training, the share of the target that is spread evenly over the candidates.
        train_logit_scale: train CLIP's scale.
        corpus: names of the entities, each unique; set by `set_corpus`, as the next.
        corpus_entities: unit, description, category and source of each, see `kinoclip.text.entities.Entity`.
        corpus_size: number of entities. The paper does not print it; 5,500 explains its operation counts best.
        reduced_tokens: number of weights of the linear `token_reduction`; set by the model.
    """

    model_type = "kinoclip_alt"
    strict_settings: ClassVar[dict[str, Any]] = {
        "alignment_logit_scale": 1.0,
        "normalize_corpus": False,
        "region_projection": "shared",
        "decoder_ffn_after_self": False,
        "conv_ffn": False,
        "normalize_logits": False,
    }

    # Architecture: vision tower
    merge_r: int | list[int | float] = 8
    train_encoder: Literal["full", "frozen", "S", "SM", "STM"] = "full"
    linear_probe: bool = False
    # Architecture: alignment
    align: bool = True
    align_regions: bool = True
    query_source: Literal["entities", "learned"] = "entities"
    region_projection: Literal["separate", "shared"] = "separate"  # paper, eq. 3: "shared"
    alignment_logit_scale: float | int = 100.0  # paper, eq. 4: 1.0, which Gumbel noise drowns
    alignment_tau: float | int = 1.0
    alignment_noise: bool = True
    hard_assignment: bool = True
    token_reduction: Literal["linear", "mean", "weighted_mean"] = "linear"
    align_mlp_first: bool = False
    align_mlp_ratio: int = 4
    # Architecture: decoder
    decoder_layers: int | None = None
    decoder_self_attention: bool = True
    decoder_conv: bool = True
    conv_kernel: int = 3
    conv_groups: Literal["depthwise", "dense"] = "depthwise"
    conv_ffn: bool = True  # paper, eq. 8: False
    decoder_ffn_after_self: bool = True  # paper, eq. 8: False
    mlp_ratio: int = 4
    head_mlp_ratio: int = 4
    temporal_position_embedding: bool = False
    # Text
    corpus_categories: list[str] | None = None
    normalize_corpus: bool = True  # paper, eq. 6: False
    normalize_logits: bool = True  # paper, eq. 10: False
    # Loss
    loss: Literal["symmetric_kl", "cross_entropy"] = "cross_entropy"
    label_smoothing: float | int = 0.1
    train_logit_scale: bool = False
    # Set by the model
    corpus: list[str] | None = None
    corpus_entities: list[dict[str, str]] | None = None
    corpus_size: int = 5500
    reduced_tokens: int | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        if self.decoder_layers is None:
            self.decoder_layers = 6 if self.vision_config.num_hidden_layers >= 24 else 4

    @property
    def aligns(self) -> bool:
        """Whether queries are entities of the corpus."""
        return self.align and self.query_source == "entities" and self.corpus_categories != []

    @property
    def aligns_regions(self) -> bool:
        """Whether merged patches are aligned too, not the class token alone."""
        return self.aligns and self.align_regions

    @property
    def aligned_tokens(self) -> int:
        """Number of aligned tokens of a frame."""
        vision = self.vision_config
        patches = (int(vision.image_size) // int(vision.patch_size)) ** 2
        schedule = merge_schedule(self.merge_r, vision.num_hidden_layers)
        return count_tokens(patches + 1, schedule) if self.aligns_regions else 1

    @property
    def learns_reduction(self) -> bool:
        """Whether the reduction of a frame's tokens has a learned weight for each."""
        return self.aligns_regions and self.token_reduction == "linear"

    @property
    def reads_text(self) -> bool:
        """Whether candidates are texts; otherwise they are the rows of the linear probe."""
        return not self.linear_probe

    @property
    def unrestorable_reason(self) -> str | None:
        """Why SLLM cannot wrap it: it restores the class token of a frame, but not its regions."""
        if not self.aligns_regions:
            return None
        return "ALT aligns the regions of each frame, which cannot be restored. Set align_regions=False."

    @classmethod
    def settings(cls) -> list[str]:
        """Return the names of the fields that a user may choose, without those that the model sets."""
        return [name for name in super().settings() if name not in ("corpus", "corpus_entities", "reduced_tokens")]

    def validate_alignment(self) -> None:
        """Check the fields of the alignment."""
        unknown = sorted(set(self.corpus_categories or ()) - set(CATEGORIES))
        if unknown:
            raise ValueError(f"corpus_categories must be among {', '.join(CATEGORIES)}, got {unknown[0]!r}.")
        for name in ("corpus", "corpus_entities"):
            listed = getattr(self, name)
            if listed is not None and len(listed) != self.corpus_size:
                raise ValueError(
                    f"{name} must hold corpus_size={self.corpus_size} entities, got {len(listed)}. Set them with `set_corpus`."
                )
        check_numbers(self, "alignment_logit_scale", "alignment_tau", above=0)
        if self.learns_reduction and self.reduced_tokens not in (None, self.aligned_tokens):
            raise ValueError(
                f"merge_r={self.merge_r} leaves {self.aligned_tokens} tokens of a frame, but the linear token_reduction has "
                f'weights for {self.reduced_tokens}. Keep merge_r and image size, or use token_reduction="mean".'
            )

    def validate_sizes(self) -> None:
        """Check numbers that are counts."""
        counts = ("corpus_size", "decoder_layers", "align_mlp_ratio", "mlp_ratio", "head_mlp_ratio", "conv_kernel")
        check_numbers(self, *counts, at_least=1)
        if self.conv_kernel % 2 == 0:
            raise ValueError(f"conv_kernel must be odd, as many frames before as after, got {self.conv_kernel}.")
        check_numbers(self, "label_smoothing", at_least=0, below=1)


class AltProcessor(RecognizerProcessor):
    """Labels, entities of a corpus, and files to the inputs of ALT."""

    # the paper's "handcraft templates" are not listed; these 16 are the ones usually meant
    default_templates: ClassVar[tuple[str, ...]] = ACTIONCLIP_TEMPLATES
    default_sampling: ClassVar[str] = "segment_center"

    def encode_entities(self, entities: Iterable[Entity | str]) -> dict[str, Tensor]:
        """Encode entities as "{unit}: {description}", or plain texts: input_ids (1, K, L), truncated if too long."""
        texts = [entity if isinstance(entity, str) else entity.text for entity in entities]
        if not texts:
            raise ValueError("The corpus has no entities. Pass at least one, or other corpus_categories.")
        ids, _ = tokenize_texts(self.tokenizer, texts, context_length=self.context_length, too_long="truncate")
        return {"input_ids": ids[None]}
