"""Token merging inside CLIP's vision tower: similar patches become one token, layer by layer (ToMe).

Daniel Bolya, Cheng-Yang Fu, Xiaoliang Dai, Peizhao Zhang, Christoph Feichtenhofer, Judy Hoffman: Token Merging: Your ViT
But Faster; ICLR 2023; https://arxiv.org/abs/2210.09461. Written from the paper; no weights are added, and with nothing to
merge the tower is CLIP's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.modeling_clip import CLIPEncoder, CLIPEncoderLayer
from transformers.utils.generic import ModelOutput

from .class_token import KeyedAttention, LastLayer

# attentions that take a number to add to each key's scores
_TAKE_BIAS = ("eager", "sdpa")
_NOT_WITH = (
    "merge_r cannot be combined with {}: only the plain layers of CLIP's ViT merge tokens. "
    "Set merge_r=0, or leave out temporal shift, joint space-time, prompts and ResNets."
)


@dataclass
class ImageTokens(ModelOutput):
    """What CLIP's vision tower gives for each image, merged or not.

    Args:
        last_hidden_state: (N, n, D), the class token first.
        pooler_output: (N, D), the class token after the last norm.
        sizes: (N, n, 1) float32, how many patches each token stands for; None where nothing was merged.
        regions: (N, patches), the token that each patch ended in, the class token not counted; None without merging.
    """

    last_hidden_state: Tensor = None  # ModelOutput wants a default
    pooler_output: Tensor = None
    sizes: Tensor | None = None
    regions: Tensor | None = None


class MergePlan(NamedTuple):
    """Which tokens merge: those at even positions (A) go into those at odd ones (B).

    Args:
        kept: (N, A - r), indices into A of those that stay.
        sources: (N, r), indices into A of those that go, most similar first.
        targets: (N, r), indices into B of where they go; several may go to one.
        num_targets: B, all of which stay, behind the kept ones.
    """

    kept: Tensor
    sources: Tensor
    targets: Tensor
    num_targets: int


def merge_schedule(merge_r: int | Sequence[float], num_layers: int) -> list[int]:
    """Tell how many tokens go in each layer.

    Args:
        merge_r: the same number everywhere; a list of whole numbers, one for each layer, zeros behind it left out; or
            `[r, inflection]` with a float from -1.0 (most of it early) to 1.0 (late): linear over the layers, r on average.
        num_layers: of the tower.

    Raises:
        ValueError: a number below 0, an inflection out of range, a list that is too long.
    """
    numbers = [merge_r] * num_layers if isinstance(merge_r, int) else list(merge_r)
    if len(numbers) == 2 and isinstance(numbers[1], float):
        mean, inflection = numbers
        if mean >= 0 and -1 <= inflection <= 1:
            first = int(mean * (1 - inflection))
            step = 2 * (mean - first) / max(1, num_layers - 1)
            return [int(first + step * layer) for layer in range(num_layers)]
    if len(numbers) > num_layers or any(not isinstance(number, int) or number < 0 for number in numbers):
        raise ValueError(
            f"merge_r is {merge_r}. Give a whole number from 0, a list of at most {num_layers} of them (one for each "
            "layer of the vision tower), or [r, inflection] with an inflection from -1.0 to 1.0."
        )
    return [*numbers, *[0] * (num_layers - len(numbers))]


def count_tokens(num_tokens: int, schedule: Sequence[int]) -> int:
    """Tell how many of an image's tokens are left after all layers, the class token counted."""
    for number in schedule:
        num_tokens -= _clip_number(number, num_tokens)
    return num_tokens


def _clip_number(number: int, num_tokens: int, *, class_token: bool = True) -> int:
    """At most half of the tokens can go; the class token takes no part."""
    return max(0, min(number, (num_tokens - class_token) // 2))


@torch.no_grad()
def plan_merge(metric: Tensor, number: int, *, class_token: bool = True) -> MergePlan | None:
    """Find the tokens that are most alike.

    Args:
        metric: (N, n, C), compared by cosine: the keys of attention, averaged over heads.
        number: r, how many tokens shall go; fewer where n is too small.
        class_token: whether the first token is one; it neither goes nor takes in others.

    Returns:
        The plan, or None where nothing is to merge.

    Source: ToMe section 3, "Bipartite Soft Matching".
    """
    number = _clip_number(number, metric.shape[1], class_token=class_token)
    if number == 0:
        return None
    metric = normalize(metric.float(), dim=-1)
    scores, nearest = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(-1)
    if class_token:
        scores[:, 0] = -torch.inf
    order = scores.argsort(dim=-1, descending=True, stable=True)
    sources, kept = order[:, :number], order[:, number:]
    if class_token:  # which keeps its place in front
        kept = kept.sort(-1).values
    return MergePlan(kept, sources, nearest.gather(1, sources), metric.shape[1] // 2)


def merge_tokens(tokens: Tensor, sizes: Tensor | None, plan: MergePlan) -> tuple[Tensor, Tensor]:
    """Average the tokens that a plan joins, each as often as it has patches.

    Args:
        tokens: (N, n, D).
        sizes: (N, n, 1) float32, the patches of each; None for one each.
        plan: of these tokens.

    Returns:
        Tokens (N, n - r, D) and their sizes; tokens that nothing was added to keep every bit.
    """
    if sizes is None:
        sizes = torch.ones_like(tokens[..., :1], dtype=torch.float32)
    gone, old = _take(sizes[:, ::2], plan.sources), sizes[:, 1::2]
    new = old.scatter_add(1, plan.targets[..., None], gone)
    # (N, B, r): a product with so few columns costs less than a scatter, and always adds in the same order
    joins = plan.targets[:, None] == torch.arange(plan.num_targets, device=tokens.device)[:, None]
    shares = (gone / new.gather(1, plan.targets[..., None])).to(tokens.dtype)
    added = joins.to(tokens.dtype) @ (_take(tokens[:, ::2], plan.sources) * shares)
    targets = tokens[:, 1::2] * (old / new).to(tokens.dtype) + added
    merged = torch.cat([_take(tokens[:, ::2], plan.kept), targets], 1)
    return merged, torch.cat([_take(sizes[:, ::2], plan.kept), new], 1)


def follow_tokens(plan: MergePlan) -> Tensor:
    """Give the position that each token has after a merge: (N, n)."""
    num_kept, images = plan.kept.shape[1], plan.kept.shape[0]
    device = plan.kept.device
    targets = num_kept + torch.arange(plan.num_targets, device=device)
    from_a = torch.empty(images, num_kept + plan.sources.shape[1], dtype=torch.long, device=device)
    from_a = from_a.scatter(1, plan.kept, torch.arange(num_kept, device=device).expand(images, -1))
    from_a = from_a.scatter(1, plan.sources, num_kept + plan.targets)
    positions = torch.empty(images, from_a.shape[1] + plan.num_targets, dtype=torch.long, device=device)
    positions[:, ::2], positions[:, 1::2] = from_a, targets
    return positions


def source_matrix(positions: Tensor, num_tokens: int) -> Tensor:
    """Write positions (N, n) as a matrix (N, num_tokens, n) of ones where a token ended and zeros elsewhere."""
    return (positions[:, None] == torch.arange(num_tokens, device=positions.device)[:, None]).float()


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """Take the rows (N, r) of each image: (N, r, D)."""
    # `len` would fix the size of an exported batch
    return tokens[torch.arange(tokens.shape[0], device=tokens.device)[:, None], index]


class MergingLayer(CLIPEncoderLayer):
    """A layer of CLIP's vision tower that merges tokens between attention and MLP.

    Source: ToMe section 3; ALT eq. 2-3.
    """

    # see `LastLayer`
    skips_unread = True

    def __init__(self, config: CLIPVisionConfig):
        super().__init__(config)
        self.self_attn = KeyedAttention(config)

    def attend(
        self, hidden_states: Tensor, bias: Tensor | None, num_queries: int | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Let the tokens, or the first of them, look at all: (N, num_queries, D), and the keys of all (N, n, H, C)."""
        attended, _, keys = self.self_attn(self.layer_norm1(hidden_states), bias, num_queries, **kwargs)
        return hidden_states[:, :num_queries] + attended, keys

    def transform(self, hidden_states: Tensor) -> Tensor:
        """Pass each token through the MLP: (N, n, D)."""
        return hidden_states + self.mlp(self.layer_norm2(hidden_states))

    def forward(
        self,
        hidden_states: Tensor,
        sizes: Tensor | None,
        positions: Tensor | None,
        number: int = 0,
        prop_attn: bool = True,
        class_token_only: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Attend, merge, transform; whatever changes goes in and comes out, so that the layer can be run again.

        Args:
            hidden_states: (N, n, D).
            sizes: (N, n, 1), the patches of each token, or None.
            positions: (N, tokens of the first layer), where each of those is now, or None.
            number: r, how many tokens shall go.
            prop_attn: let a token count for all its patches when others look at it (proportional attention).
            class_token_only: leave out the other tokens, which are followed but not averaged.
            kwargs: of the attention.

        Returns:
            The same three for n - r tokens, or with `class_token_only` for the first of them.
        """
        class_token_only = class_token_only and self.skips_unread
        bias = None
        if prop_attn and sizes is not None:
            bias = sizes.log().transpose(1, 2)[:, None].to(hidden_states.dtype)  # (N, 1, 1, n)
        hidden_states, keys = self.attend(hidden_states, bias, 1 if class_token_only else None, **kwargs)
        plan = plan_merge(keys.mean(2), number)
        if class_token_only:
            sizes = None if sizes is None else sizes[:, :1]
        elif plan is not None:
            hidden_states, sizes = merge_tokens(hidden_states, sizes, plan)
        if plan is not None:
            moved = follow_tokens(plan)
            positions = moved if positions is None else moved.gather(1, positions)
        return self.transform(hidden_states), sizes, positions


class MergingEncoder(CLIPEncoder):
    """The layers of CLIP's vision tower, with fewer tokens in each."""

    def __init__(
        self,
        config: CLIPVisionConfig,
        schedule: list[int],
        prop_attn: bool = True,
        layer_class: Callable[[CLIPVisionConfig], MergingLayer] = MergingLayer,
    ):
        super().__init__(config)
        self.layers = nn.ModuleList([layer_class(config) for _ in schedule])
        self.schedule = schedule
        self.prop_attn = prop_attn

    def forward(
        self,
        inputs_embeds: Tensor,
        attention_mask: Tensor | None = None,
        class_token_only: bool = False,
        **kwargs: Any,
    ) -> ImageTokens:
        """Give the last tokens, or the class token of them, their sizes, and the region of each patch.

        Raises:
            ValueError: the attention implementation cannot weigh tokens by sizes, or layers of another kind are there.
        """
        used = self.config._attn_implementation
        if self.prop_attn and any(self.schedule) and used not in _TAKE_BIAS:
            raise ValueError(
                f"attn_implementation is {used!r}, which cannot weigh merged tokens by their sizes. "
                f"Use one of {', '.join(_TAKE_BIAS)}, or set prop_attn=False."
            )
        hidden_states, sizes, positions = inputs_embeds, None, None
        for layer, number in zip(self.layers, self.schedule, strict=True):
            if layer is self.layers[-1] and class_token_only:
                kwargs["class_token_only"] = True
            if isinstance(layer, CLIPEncoderLayer) and not isinstance(layer, MergingLayer):  # replaced since
                raise ValueError(_NOT_WITH.format(type(layer).__name__))
            hidden_states, sizes, positions = layer(
                hidden_states, sizes, positions, number=number, prop_attn=self.prop_attn, **kwargs
            )
        regions = None if positions is None else positions[:, 1:] - 1
        return ImageTokens(last_hidden_state=hidden_states, sizes=sizes, regions=regions)


def merge_tokens_in(
    vision_model: CLIPVisionModel,
    merge_r: int | Sequence[float],
    prop_attn: bool = True,
    layer_class: Callable[[CLIPVisionConfig], MergingLayer] = MergingLayer,
) -> None:
    """Give a vision tower an encoder that merges tokens, under the same parameter names.

    Call it in a model's `__init__`, before its `post_init` gives the new layers their first values.

    Args:
        vision_model: CLIP's.
        merge_r: see `merge_schedule`.
        prop_attn: see `MergingLayer`.
        layer_class: makes a layer.

    Raises:
        ValueError: the schedule does not fit, or the tower is not CLIP's own ViT.
    """
    encoder = getattr(vision_model, "encoder", None)
    for module in [vision_model] if encoder is None else encoder.layers:
        if type(module) not in (CLIPEncoderLayer, LastLayer, MergingLayer):
            raise ValueError(_NOT_WITH.format(type(module).__name__))
    schedule = merge_schedule(merge_r, len(encoder.layers))
    vision_model.encoder = MergingEncoder(vision_model.config, schedule, prop_attn, layer_class)


def encode_images(
    vision_model: CLIPVisionModel, pixel_values: Tensor, *, class_token_only: bool = False, **kwargs: Any
) -> ImageTokens:
    """Run a vision tower, with or without merging, over pixels (N, 3, H, W); `kwargs` reach its layers.

    With `class_token_only`, a tower that has a `LastLayer`, or merges, gives no other token: `last_hidden_state` is (N, 1, D).
    """
    if class_token_only:
        kwargs["class_token_only"] = True
    if not isinstance(getattr(vision_model, "encoder", None), MergingEncoder):
        output = vision_model(pixel_values=pixel_values, **kwargs)
        return ImageTokens(last_hidden_state=output.last_hidden_state, pooler_output=output.pooler_output)
    interpolate = kwargs.pop("interpolate_pos_encoding", False)
    embeds = vision_model.embeddings(pixel_values, interpolate_pos_encoding=interpolate)
    tokens = vision_model.encoder(vision_model.pre_layrnorm(embeds), **kwargs)
    tokens.pooler_output = vision_model.post_layernorm(tokens.last_hidden_state[:, 0])
    return tokens
