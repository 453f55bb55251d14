"""What is trained: what the method says, less CLIP's towers, or low-rank adapters on them."""

from __future__ import annotations

from typing import Any

from torch import nn

from kinoclip.recognizer import VideoRecognizer

from .optimizer import is_clip_parameter
from .settings import LoraSettings, TrainingSettings


def choose_trained(model: VideoRecognizer, settings: TrainingSettings) -> Any | None:
    """Freeze what is not trained; give the adapters (a `peft.PeftModel` around the same model), if there are any.

    Raises:
        ValueError: no layer is there for an adapter.
    """
    model.freeze()
    if settings.freeze == "nothing":
        model.requires_grad_(True)
    adapted = _adapted_layers(model, settings.lora) if settings.lora.rank else []
    if settings.freeze == "towers" or settings.lora.rank:
        for name, parameter in model.named_parameters():
            if is_clip_parameter(name):
                parameter.requires_grad_(False)
    return _add_adapters(model, settings.lora, adapted) if adapted else None


def _adapted_layers(model: nn.Module, settings: LoraSettings) -> list[str]:
    """Name the linear layers of CLIP's towers that would be trained without adapters."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    trained = [name for name, module in linear.items() if is_clip_parameter(name) and module.weight.requires_grad]
    found = [name for name in trained if name.endswith(tuple(settings.targets))]
    if not found:
        ends = sorted({name.rpartition(".")[2] for name in trained})
        raise ValueError(
            f"training.lora.targets is {settings.targets}, and no trained linear layer of CLIP ends so. Ends: "
            f"{', '.join(ends) or 'none, since the towers are frozen'}."
        )
    return found


def _add_adapters(model: VideoRecognizer, settings: LoraSettings, layers: list[str]) -> Any:
    from peft import LoraConfig, get_peft_model

    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,  # type: ignore[arg-type]  # any number will do
        lora_dropout=settings.dropout,
        target_modules=layers,
    )
    adapters = get_peft_model(model, config)  # freezes everything else
    for parameter in trained:
        parameter.requires_grad_(True)
    return adapters


def merge_adapters(adapters: Any) -> None:
    """Add the adapters to the weights and put CLIP's own layers back, in place."""
    adapters.merge_and_unload()
