"""The config of ALT."""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict

from kinoclip.clip_recognizer_config import ClipRecognizerConfig
from kinoclip.components.token_merging import count_tokens, merge_schedule
from kinoclip.text.entities import CATEGORIES


@strict
class AltConfig(ClipRecognizerConfig):
    """The config of ALT: the paper's ablations (Tables 5, 7, 8, C3, C4), and what it leaves open.

    Args:
        align: give the decoder entities of the corpus that fit the frames; without, its queries are learned (Table 5).
        merge_r: tokens that merge in each layer of the vision tower (Table 8), see `merge_schedule`.
        prop_attn: let a merged token count for all its patches in attention.
        align_regions: align the merged patches too, not the class token alone (Table 5).
        train_encoder: what `freeze()` leaves trainable of the vision tower (Table 7): all of it ("full"), nothing
            ("frozen"), or AIM's adapters beside it: spatial ("S"), MLP too ("SM"), temporal too ("STM").
        linear_probe: train nothing but a linear classifier of the video (Table 6); its rows, named in `id2label`, are the
            candidates.
        corpus: names of the entities, each its own; `set_corpus` writes them, and the next.
        corpus_entities: unit, description, category and source of each, see `kinoclip.text.entities.Entity`.
        corpus_size: how many entities there are. The paper does not say; 5,500 explains its operation counts best.
        corpus_categories: the part of a corpus that `set_corpus` takes (Table C3), all of it when left out; an empty list
            makes the queries learned ones.
        query_source: "entities" of the corpus or "learned" queries, one for each frame (Table C3, first row).
        normalize_corpus: bring the entities to unit length.
        region_projection: merged patches enter the shared space through a norm and a matrix of their own, which start as
            CLIP's ("separate", which fits the printed parameter counts), or through CLIP's ("shared").
        alignment_logit_scale: multiplies the cosines before the softmax over entities; 1.0 is the paper to the letter, in
            which Gumbel noise drowns them.
        alignment_tau: the temperature of that softmax.
        alignment_noise: add Gumbel noise to it in training.
        hard_assignment: one entity for each token (eq. 5), or a mixture.
        token_reduction: how a frame's tokens become one: a learned weight for each ("linear"), their "mean", or a mean that
            counts patches ("weighted_mean").
        align_mlp_first: run the MLP after alignment on each token, before they become one.
        align_mlp_ratio: inner width of that MLP, over the shared width.
        decoder_layers: M; 4, or 6 on towers of 24 layers, when left out.
        decoder_self_attention: let the queries of the frames look at each other (Table C4).
        decoder_conv: mix each frame with its neighbors (Table C4).
        conv_kernel: frames that this convolution sees.
        conv_groups: channel by channel ("depthwise") or across channels ("dense").
        conv_ffn: an MLP after the convolution.
        decoder_ffn_after_self: an MLP after self-attention; that after cross-attention is always there.
        mlp_ratio: inner width of the decoder's MLPs, over the shared width.
        head_mlp_ratio: the same of the MLP that makes the video of the mean query (eq. 9).
        temporal_position_embedding: add a learned vector for each frame to frames and queries.
        normalize_logits: match by cosine times CLIP's scale, or by the plain product (eq. 10).
        train_logit_scale: train that scale.
        label_smoothing: in training, the share of the target that all candidates have alike.
        reduced_tokens: how many tokens the linear `token_reduction` has weights for; the model writes it.
    """

    model_type = "kinoclip_alt"
    shim_classes: ClassVar[dict[str, str]] = {
        "AutoConfig": "AltConfig",
        "AutoModel": "AltModel",
        "AutoModelForVideoClassification": "AltModel",
    }
    strict_settings: ClassVar[dict[str, Any]] = {
        "alignment_logit_scale": 1.0,
        "normalize_corpus": False,
        "region_projection": "shared",
        "decoder_ffn_after_self": False,
        "conv_ffn": False,
        "normalize_logits": False,
    }

    align: bool = True
    merge_r: int | list[int | float] = 8
    align_regions: bool = True
    train_encoder: Literal["full", "frozen", "S", "SM", "STM"] = "full"
    linear_probe: bool = False
    corpus: list[str] | None = None
    corpus_entities: list[dict[str, str]] | None = None
    corpus_size: int = 5500
    corpus_categories: list[str] | None = None
    query_source: Literal["entities", "learned"] = "entities"
    normalize_corpus: bool = True
    region_projection: Literal["separate", "shared"] = "separate"
    alignment_logit_scale: float | int = 100.0
    alignment_tau: float | int = 1.0
    alignment_noise: bool = True
    hard_assignment: bool = True
    token_reduction: Literal["linear", "mean", "weighted_mean"] = "linear"
    align_mlp_first: bool = False
    align_mlp_ratio: int = 4
    decoder_layers: int | None = None
    decoder_self_attention: bool = True
    decoder_conv: bool = True
    conv_kernel: int = 3
    conv_groups: Literal["depthwise", "dense"] = "depthwise"
    conv_ffn: bool = True
    decoder_ffn_after_self: bool = True
    mlp_ratio: int = 4
    head_mlp_ratio: int = 4
    temporal_position_embedding: bool = False
    normalize_logits: bool = True
    train_logit_scale: bool = False
    label_smoothing: float | int = 0.1
    reduced_tokens: int | None = None
    loss: Literal["symmetric_kl", "cross_entropy"] = "cross_entropy"

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
        """Whether merged patches are aligned, beside the class token."""
        return self.aligns and self.align_regions

    @property
    def aligned_tokens(self) -> int:
        """How many tokens of a frame are aligned."""
        vision = self.vision_config
        patches = (int(vision.image_size) // int(vision.patch_size)) ** 2
        schedule = merge_schedule(self.merge_r, vision.num_hidden_layers)
        return count_tokens(patches + 1, schedule) if self.aligns_regions else 1

    @property
    def learns_reduction(self) -> bool:
        """Whether the reduction of a frame's tokens has a weight for each."""
        return self.aligns_regions and self.token_reduction == "linear"

    @property
    def reads_text(self) -> bool:
        """Whether candidates are texts; otherwise they are the rows of the linear probe."""
        return not self.linear_probe

    @property
    def unrestorable_reason(self) -> str | None:
        """Why SLLM cannot wrap this: it restores the class token of a frame, but not its regions."""
        if not self.aligns_regions:
            return None
        return "ALT aligns the regions of each frame, which cannot be restored. Set align_regions=False."

    @classmethod
    def settings(cls) -> list[str]:
        """Name the fields that a user may choose, not those that the model writes."""
        return [name for name in super().settings() if name not in ("corpus", "corpus_entities", "reduced_tokens")]

    def validate_alignment(self) -> None:
        """Check what belongs to alignment."""
        unknown = sorted(set(self.corpus_categories or ()) - set(CATEGORIES))
        if unknown:
            raise ValueError(f"corpus_categories holds {unknown[0]!r}. Known: {', '.join(CATEGORIES)}.")
        for name in ("corpus", "corpus_entities"):
            listed = getattr(self, name)
            if listed is not None and len(listed) != self.corpus_size:
                raise ValueError(
                    f"{name} names {len(listed)} entities, but corpus_size is {self.corpus_size}. "
                    "Leave them to `set_corpus`."
                )
        for name in ("alignment_logit_scale", "alignment_tau"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}. It scales cosines, so it is above 0.")
        if self.learns_reduction and self.reduced_tokens not in (None, self.aligned_tokens):
            raise ValueError(
                f"merge_r={self.merge_r} leaves {self.aligned_tokens} tokens of a frame, but the linear token_reduction has "
                f'weights for {self.reduced_tokens}. Keep merge_r and image size, or use token_reduction="mean".'
            )

    def validate_sizes(self) -> None:
        """Check numbers that are counts."""
        counts = ("corpus_size", "decoder_layers", "align_mlp_ratio", "mlp_ratio", "head_mlp_ratio", "conv_kernel")
        for name in counts:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}. It is at least 1.")
        if self.conv_kernel % 2 == 0:
            raise ValueError(f"conv_kernel is {self.conv_kernel}. It is odd: as many frames before as after.")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}. It is a share, from 0 to below 1.")
