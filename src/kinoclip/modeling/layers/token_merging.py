"""Token merging inside CLIP's vision tower: similar patches become one token, layer by layer (ToMe).

Daniel Bolya, Cheng-Yang Fu, Xiaoliang Dai, Peizhao Zhang, Christoph Feichtenhofer, Judy Hoffman: Token Merging: Your ViT
But Faster; ICLR 2023; https://arxiv.org/abs/2210.09461. Written from the paper; no weights are added, and with nothing to
merge the tower is CLIP's, bit for bit.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPVisionConfig, CLIPVisionModel
from transformers.models.clip.modeling_clip import CLIPEncoder, CLIPEncoderLayer
from transformers.utils.generic import ModelOutput

from kinoclip.modeling.layers.class_token import LastLayer

# implementations that accept a bias on the scores of each key
_TAKE_BIAS = ("eager", "sdpa")
_NOT_WITH = (
    "merge_r cannot be combined with {}: only the plain layers of CLIP's ViT merge tokens. "
    "Set merge_r=0, or leave out temporal shift, joint space-time, prompts and ResNets."
)


@dataclass
class ImageTokens(ModelOutput):
    """Output of CLIP's vision tower, with or without merging; ModelOutput wants defaults."""

    last_hidden_state: Tensor = None  # (N, n, D), the class token first
    pooler_output: Tensor = None  # (N, D), the class token after the last norm
    sizes: Tensor | None = None  # (N, n, 1) float32, patches of each token; None where nothing was merged
    regions: Tensor | None = None  # (N, patches), the token of each patch, not counting the class token; or None


class MergePlan(NamedTuple):
    """Which tokens at even positions (A) merge into those at odd ones (B), all of which stay, after the kept ones."""

    kept: Tensor  # (N, A - r), indices into A of the tokens that stay
    sources: Tensor  # (N, r), indices into A of the tokens that are merged, most similar first
    targets: Tensor  # (N, r), indices into B of the tokens that they are merged into, which may repeat
    num_targets: int  # size of B


def merge_schedule(merge_r: int | Sequence[float], num_layers: int) -> list[int]:
    """Return how many tokens are merged in each layer.

    `merge_r` is one number for all layers; a list of integers, one per layer, without trailing zeros; or `[r, inflection]` with
    a float from -1.0 (early) to 1.0 (late): linear over the layers, r on average.
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
            f"merge_r must be an integer of at least 0, a list of at most {num_layers} of them (one per layer of the vision "
            f"tower), or [r, inflection] with an inflection from -1.0 to 1.0, got {merge_r}."
        )
    return [*numbers, *[0] * (num_layers - len(numbers))]


def count_tokens(num_tokens: int, schedule: Sequence[int]) -> int:
    """Return how many of an image's tokens are left after all layers, including the class token."""
    for number in schedule:
        num_tokens -= _clip_number(number, num_tokens)
    return num_tokens


def _clip_number(number: int, num_tokens: int) -> int:
    """Limit the number of merged tokens to half of those that take part; the class token does not."""
    return max(0, min(number, (num_tokens - 1) // 2))


@torch.no_grad()
def plan_merge(metric: Tensor, number: int) -> MergePlan | None:
    """Plan to merge the `number` most similar tokens, or fewer if there are too few; None if nothing is merged.

    `metric` (N, n, C), the keys of attention averaged over heads, is compared by cosine. The class token, the first one, does
    not take part.

    Source: ToMe section 3, "Bipartite Soft Matching".
    """
    number = _clip_number(number, metric.shape[1])
    if number == 0:
        return None
    metric = normalize(metric.float(), dim=-1)
    scores, nearest = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(-1)
    scores[:, 0] = -torch.inf
    order = _order(scores, descending=True)
    sources, kept = order[:, :number], order[:, number:]
    kept = kept.gather(1, _order(kept, descending=False))  # the class token keeps its place in front
    return MergePlan(kept, sources, nearest.gather(1, sources), metric.shape[1] // 2)


def _order(rows: Tensor, *, descending: bool) -> Tensor:
    """Return the stable order of the values of each row (N, n)."""
    if torch.compiler.is_compiling():  # ONNX has no sort, and its TopK is stable
        return rows.topk(rows.shape[-1], dim=-1, largest=descending).indices
    return rows.argsort(dim=-1, descending=descending, stable=True)


def merge_tokens(tokens: Tensor, sizes: Tensor | None, plan: MergePlan) -> tuple[Tensor, Tensor]:
    """Average the tokens (N, n, D) that a plan merges, weighted by their patches: (N, n - r, D), and new sizes.

    `sizes` (N, n, 1) float32 are the patches of each token; None is one each. Tokens that do not take part stay bit-identical.
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
    """Return the position of each token after a merge: (N, n)."""
    num_kept, images = plan.kept.shape[1], plan.kept.shape[0]
    device = plan.kept.device
    targets = num_kept + torch.arange(plan.num_targets, device=device)
    from_a = torch.empty(images, num_kept + plan.sources.shape[1], dtype=torch.long, device=device)
    from_a = from_a.scatter(1, plan.kept, torch.arange(num_kept, device=device).expand(images, -1))
    from_a = from_a.scatter(1, plan.sources, num_kept + plan.targets)
    positions = torch.empty(images, from_a.shape[1] + plan.num_targets, dtype=torch.long, device=device)
    positions[:, ::2], positions[:, 1::2] = from_a, targets
    return positions


def _take(tokens: Tensor, index: Tensor) -> Tensor:
    """Gather the rows (N, r) of each image: (N, r, D)."""
    # `len` would fix the size of an exported batch
    return tokens[torch.arange(tokens.shape[0], device=tokens.device)[:, None], index]


class MergingLayer(LastLayer):
    """A layer of CLIP's vision tower that merges tokens between attention and MLP.

    Source: ToMe section 3; ALT eq. 2-3.
    """

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
        """Attend, merge, transform. All state is passed in and returned, so that the layer can be checkpointed.

        `number` of the tokens (N, n, D) merge. `sizes` (N, n, 1) are the patches of each, `positions` (N, tokens of
        the first layer) where those are now; None without merging. With `prop_attn` a key counts once per patch of its
        token. With `class_token_only` the other tokens are tracked but not averaged.
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
        """Return the tokens of the last layer, their sizes, and the region of each patch."""
        used = self.config._attn_implementation
        if self.prop_attn and any(self.schedule) and used not in _TAKE_BIAS:
            raise ValueError(
                f"attn_implementation must be one of {', '.join(_TAKE_BIAS)} to weigh merged tokens by their sizes, got "
                f"{used!r}. Change it, or set prop_attn=False."
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
    """Replace the encoder of a vision tower by one that merges tokens, under the same parameter names.

    Call it in a model's `__init__` before `post_init`, which initializes the new layers.
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

    With `class_token_only`, a tower that has a `LastLayer` or merges returns the class token only: (N, 1, D).
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
