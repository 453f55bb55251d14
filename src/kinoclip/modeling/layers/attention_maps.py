"""The layers of CLIP's vision tower: attention maps of the class token, hidden states, attention weights."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any, TypeVar

from torch import Tensor, nn

from kinoclip.modeling.layers.token_merging import MergingLayer

Result = TypeVar("Result")


def map_attention(vision_model: nn.Module, run: Callable[[], object]) -> Tensor | None:
    """Run a vision tower once, and compute the attention of each class token to each patch in its last layer.

    The last attention runs with the "eager" implementation, which returns its weights. The weight of a merged token is
    divided equally among its patches. Weights of the class token and of prompts are left out, and the rest normalized.

    Returns:
        (N, patches), the mean over heads, summing to one; None for a tower without attention.
    """
    layers = getattr(getattr(vision_model, "encoder", None), "layers", None)
    if layers is None:
        return None
    last = layers[-1]
    inputs: list[tuple[Any, ...]] = []
    with _weights_of([last.self_attn]) as weights:
        hook = last.register_forward_pre_hook(lambda module, given: inputs.append(given))
        try:
            run()
        finally:
            hook.remove()
    tokens = inputs[-1][0]
    seen = weights[0][:, :, 0, : tokens.shape[1]].float().mean(1)  # prompts come after the tokens
    if isinstance(last, MergingLayer):
        seen = divide_among_patches(seen, *inputs[-1][1:3])
    patches = seen[:, 1:]
    return patches / patches.sum(-1, keepdim=True)


def divide_among_patches(weights: Tensor, sizes: Tensor | None, positions: Tensor | None) -> Tensor:
    """Divide the weight of each merged token (N, n) equally among its `sizes` (N, n, 1) patches: (N, patches).

    `positions` (N, patches) is the token that each patch is part of; None means that nothing was merged.
    """
    if sizes is None or positions is None:
        return weights
    return (weights / sizes[..., 0]).gather(1, positions)


@contextmanager
def _weights_of(attentions: Sequence[nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Run attention modules as "eager" within the context, and collect the weights of each by its number."""
    weights: dict[int, Tensor] = {}
    configs = [attention.config for attention in attentions]
    hooks = [
        # an adapted layer attends over time first; the last call is the one over patches
        attention.register_forward_hook(
            lambda module, given, output, number=number: weights.update({number: output[1]})
        )
        for number, attention in enumerate(attentions)
    ]
    for attention, config in zip(attentions, configs, strict=True):
        attention.config = copy(config)
        attention.config._attn_implementation = "eager"
    try:
        yield weights
    finally:
        for attention, config, hook in zip(attentions, configs, hooks, strict=True):
            attention.config = config
            hook.remove()


def record_layers(
    vision_model: nn.Module | None,
    run: Callable[[], Result],
    hidden_states: bool | int | Sequence[int] | None,
    attentions: bool,
) -> tuple[Result, dict[str, tuple[Any, ...]]]:
    """Run a vision tower, and return its result with `hidden_states` and `attentions` of its layers, if requested.

    Raises:
        ValueError: the tower has no such layers.
    """
    layers = list(getattr(getattr(vision_model, "encoder", None), "layers", None) or ())
    if not layers:
        raise ValueError("The vision tower has no transformer layers, so it has neither hidden states nor attentions.")
    states: list[Tensor] = []
    hooks = [layers[0].register_forward_pre_hook(lambda module, given: states.append(given[0]))]
    hooks += [
        layer.register_forward_hook(
            lambda module, given, out: states.append(out[0] if isinstance(out, tuple) else out)
        )
        for layer in layers
    ]
    try:
        with _weights_of([layer.self_attn for layer in layers] if attentions else []) as weights:
            result = run()
    finally:
        for hook in hooks:
            hook.remove()
    recorded: dict[str, tuple[Any, ...]] = {"attentions": tuple(weights.values())} if attentions else {}
    if hidden_states is not None and hidden_states is not False:
        count = len(states)
        wanted = (
            range(count)
            if hidden_states is True
            else [hidden_states]
            if isinstance(hidden_states, int)
            else hidden_states
        )
        kept = {number % count for number in wanted}
        recorded["hidden_states"] = tuple(state if i in kept else None for i, state in enumerate(states))
    return result, recorded
