"""Parameters and operations of a recognizer, counted without weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from kinoclip.components.class_token import LastLayer
from kinoclip.components.token_merging import MergingLayer
from kinoclip.methods import METHODS
from kinoclip.outputs import TextFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.recognizer_config import RecognizerConfig, check_settings

from .loading import read_config

# (patch, image size, vision width, vision layers, text width, shared width) of OpenAI's ViTs; both towers: heads = width / 64
CLIP_SHAPES = {
    "vitb32": (32, 224, 768, 12, 512, 512),
    "vitb16": (16, 224, 768, 12, 512, 512),
    "vitl14": (14, 224, 1024, 24, 768, 768),
    "vitl14-336": (14, 336, 1024, 24, 768, 768),
}
Convention = Literal["full", "paper"]


@dataclass(frozen=True)
class Profile:
    """What one view of one video costs; the text tower is left out, since candidates are encoded once.

    Args:
        parameters: of everything that a video passes through.
        trainable_parameters: those that the method trains.
        gmacs: billions of multiply-accumulate operations for one view.
        convention: "full" counts every matrix product; "paper" leaves out attention and projections, as the numbers
            printed in BIKE's Table 1 and SLLM's Table 3 do.
        num_frames: T.
        image_size: pixels on a side.
    """

    parameters: int
    trainable_parameters: int
    gmacs: float
    convention: Convention
    num_frames: int
    image_size: int


def profile_config(
    name: str | Path, *, clip: str | None = None, size: int | None = None, **fields: Any
) -> RecognizerConfig:
    """Give the config of a method on one of OpenAI's CLIPs, or that of a checkpoint.

    Args:
        name: a method ("bike"), a folder or a hub id.
        clip: one of `CLIP_SHAPES`, for a method; ViT-B/32 when left out.
        size: image size, if it is not CLIP's own.
        fields: config fields.

    Raises:
        ValueError: an unknown CLIP or config field, or a size that is no multiple of the patch size.
    """
    if str(name) in METHODS:
        towers = clip_fields(clip or "vitb32")
        vision = towers["vision_config"]
        if size is not None:
            vision["image_size"] = _check_size(size, vision["patch_size"])
        return METHODS[str(name)].config.from_clip_fields(towers, **fields)
    config = _read_checkpoint(str(name), clip)
    check_settings(type(config), fields)
    for field, value in fields.items():
        setattr(config, field, value)
    if size is not None:
        _set_size(getattr(config, "recognizer_config", config), size)
    return config


def _set_size(config: Any, size: int) -> None:
    """Set the image size of a recognizer on CLIP, or of one without."""
    vision = getattr(config, "vision_config", None)
    if vision is None:
        config.image_size = size
    else:
        vision.image_size = _check_size(size, vision.patch_size)


def _check_size(size: int, patch: int) -> int:
    if size < patch or size % patch:
        raise ValueError(f"size is {size}. It must be a multiple of the patch size {patch}.")
    return size


def _read_checkpoint(name: str, clip: str | None) -> RecognizerConfig:
    """Give the config of a checkpoint."""
    methods = ", ".join(METHODS)
    if clip is not None:
        raise ValueError(
            f"{name} is a checkpoint, which has its own CLIP. Leave --clip out, or name a method: {methods}."
        )
    try:
        config = read_config(name)
    except ValueError as error:
        raise ValueError(f"{error} Methods are: {methods}.") from error
    if not isinstance(config, RecognizerConfig):
        raise ValueError(f"{name} is a {config.model_type!r} model, not one that kinoclip published.")
    return config


def clip_fields(name: str) -> dict[str, Any]:
    """Give the config fields of one of OpenAI's CLIPs.

    Raises:
        ValueError: an unknown name.
    """
    if name not in CLIP_SHAPES:
        raise ValueError(f"There is no CLIP {name!r}. Known: {', '.join(CLIP_SHAPES)}.")
    patch, size, width, layers, text_width, shared = CLIP_SHAPES[name]

    def tower(width: int, layers: int) -> dict[str, Any]:
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            "projection_dim": shared,
        }

    return {
        "text_config": tower(text_width, 12),
        "vision_config": {**tower(width, layers), "patch_size": patch, "image_size": size},
        "projection_dim": shared,
    }


def profile(
    config: RecognizerConfig, *, num_frames: int | None = None, flops: Convention = "full", prompts: int = 0
) -> Profile:
    """Count parameters and operations of a recognizer on the meta device; no memory is used.

    As in papers, all tokens pass all layers. Here the last layer computes the class token alone where no other is read.

    Args:
        config: of the recognizer.
        num_frames: T that are sampled; the config's own when left out.
        flops: what is counted.
        prompts: how many texts to count too; SLLM's tables hold one. Encoded once, they cost a video nothing.
    """
    num_frames = num_frames or config.num_frames
    size = config.frame_size
    with torch.device("meta"):
        model = AutoModel.from_config(config).eval()
        pixels = torch.empty(1, config.encoded_frames(num_frames), 3, size, size)
        text = _one_candidate(config) if config.reads_text else None
    model.freeze()
    parameters, trainable = _count_parameters(model, flops)
    for module in model.modules():
        if isinstance(module, LastLayer | MergingLayer):
            module.skips_unread = False
    model.requires_grad_(False)  # the counter of products looks for the gradients of what comes out
    counter = _count_modules if flops == "paper" else _count_products
    macs = counter(model, pixel_values_videos=pixels, text_features=text)
    if prompts:
        macs += counter(
            _find_text_tower(model),
            input_ids=torch.zeros(
                prompts, config.text_config.max_position_embeddings, dtype=torch.long, device="meta"
            ),
        )
    return Profile(parameters, trainable, macs / 1e9, flops, num_frames, size)


def _one_candidate(config: RecognizerConfig) -> TextFeatures:
    width, length = config.projection_dim, config.text_config.max_position_embeddings
    return TextFeatures(
        embeds=torch.empty(1, 1, width),
        words=torch.empty(1, length, width),
        word_mask=torch.ones(1, length, dtype=torch.bool),
    )


def _find_text_tower(model: VideoRecognizer) -> nn.Module:
    """Give the text tower, of the model or of the recognizer that it wraps."""
    module: nn.Module
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "text_model":
            return module
    raise ValueError(f"{type(model).__name__} has no text tower, so it reads no prompts. Leave --prompts out.")


def _is_counted_in_papers(name: str, module: nn.Module) -> bool:
    """Tell whether a hook-based counter sees a layer: attention there is `nn.MultiheadAttention`, projections bare."""
    if not isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        return False
    return "self_attn" not in name and not name.endswith("_projection")


def _serves_video(name: str) -> bool:
    """Tell whether a weight acts on videos: the text towers, the attributes' MLPs, a teacher and the scales do not."""
    return not {"text_model", "text_projection", "attributes", "teacher", "logit_scale"} & set(name.split("."))


def _count_parameters(model: VideoRecognizer, flops: Convention) -> tuple[int, int]:
    if flops == "paper":
        layers = [m for n, m in model.named_modules() if _serves_video(n) and _is_counted_in_papers(n, m)]
        chosen = [parameter for layer in layers for parameter in layer.parameters(recurse=False)]
    else:
        chosen = [parameter for name, parameter in model.named_parameters() if _serves_video(name)]
    return sum(p.numel() for p in chosen), sum(p.numel() for p in chosen if p.requires_grad)


def _count_products(model: nn.Module, **inputs: Any) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**inputs)
    return int(counter.get_total_flops()) // 2


def _count_modules(model: nn.Module, **inputs: Any) -> int:
    macs = 0

    def add(module: nn.Module, _: tuple[Any, ...], output: torch.Tensor) -> None:
        nonlocal macs
        weight = module.get_parameter("weight")
        macs += output.numel() * weight[0].numel()

    layers = [m for n, m in model.named_modules() if _is_counted_in_papers(n, m)]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return macs
