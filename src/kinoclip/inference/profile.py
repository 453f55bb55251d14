"""Parameters and operations of a recognizer, counted on the meta device."""

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModel

from kinoclip.methods import METHODS, find_method
from kinoclip.methods.auto import read_config
from kinoclip.modeling.configuration import RecognizerConfig, check_settings
from kinoclip.modeling.layers.class_token import LastLayer
from kinoclip.modeling.layers.token_merging import MergingLayer
from kinoclip.modeling.outputs import TextFeatures
from kinoclip.modeling.recognizer import VideoRecognizer

# (patch, image size, vision width, vision layers, text width, shared width) of OpenAI's ViTs; both towers: heads = width / 64
CLIP_SHAPES = {
    "vitb32": (32, 224, 768, 12, 512, 512),
    "vitb16": (16, 224, 768, 12, 512, 512),
    "vitl14": (14, 224, 1024, 24, 768, 768),
    "vitl14-336": (14, 336, 1024, 24, 768, 768),
}
# parts that do not act on videos
_NOT_VIDEO = {"text_model", "text_projection", "attributes", "teacher", "logit_scale"}
Convention = Literal["full", "paper"]


@dataclass(frozen=True)
class Profile:
    """The cost of one view of one video, without the text tower, since candidates are encoded once.

    Args:
        parameters: of everything that a video passes through.
        trainable_parameters: those that the method trains.
        gmacs: billions of multiply-accumulate operations.
        convention: "full" counts every matrix product; "paper" leaves out attention and projections, as the numbers
            printed in BIKE's Table 1 and SLLM's Table 3 do.
        num_frames: T.
        image_size: in pixels.
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
    """Return the config of a method on one of OpenAI's CLIPs, or that of a checkpoint.

    Args:
        name: a method ("bike"), a folder or a hub id.
        clip: one of `CLIP_SHAPES`, for a method; ViT-B/32 by default.
        size: image size, if it is not CLIP's own.
        fields: config fields.

    Raises:
        ValueError: an unknown CLIP or config field, or a size that is not a multiple of the patch size.
    """
    if str(name) in METHODS:
        towers = clip_fields(clip or "vitb32")
        vision = towers["vision_config"]
        vision["image_size"] = _check_size(size or vision["image_size"], vision["patch_size"])
        return METHODS[str(name)].config.from_clip_fields(towers, **fields)
    methods = ", ".join(METHODS)
    if clip is not None:
        raise ValueError(
            f"{name} is a checkpoint, which has its own CLIP. Leave --clip out, or name a method: {methods}."
        )
    try:
        config: RecognizerConfig = read_config(str(name))
    except ValueError as error:
        raise ValueError(f"{error} Methods are: {methods}.") from error
    find_method(config)
    check_settings(type(config), fields)
    for field, value in fields.items():
        setattr(config, field, value)
    if size is not None:
        inner = getattr(config, "recognizer_config", config)
        vision = getattr(inner, "vision_config", None)  # TAM has none
        (vision or inner).image_size = size if vision is None else _check_size(size, vision.patch_size)
    return config


def _check_size(size: int, patch: int) -> int:
    if size < patch or size % patch:
        raise ValueError(f"size must be a multiple of the patch size {patch}, got {size}.")
    return size


def clip_fields(name: str) -> dict[str, Any]:
    """Return the config fields of one of OpenAI's CLIPs.

    Raises:
        ValueError: an unknown name.
    """
    if name not in CLIP_SHAPES:
        raise ValueError(f"clip must be one of {', '.join(CLIP_SHAPES)}, got {name!r}.")
    patch, size, width, layers, text_width, shared = CLIP_SHAPES[name]

    def tower(width: int, layers: int) -> dict[str, Any]:
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            "projection_dim": shared,
        }

    vision = {**tower(width, layers), "patch_size": patch, "image_size": size}
    return {"text_config": tower(text_width, 12), "vision_config": vision, "projection_dim": shared}


def profile(
    config: RecognizerConfig, *, num_frames: int | None = None, flops: Convention = "full", prompts: int = 0
) -> Profile:
    """Count parameters and operations of a recognizer; no memory is used.

    As in papers, all tokens pass all layers, although the last layer computes only the class token where no other is read.

    Args:
        config: of the recognizer.
        num_frames: T that are sampled; by default the config's own.
        flops: what is counted, see `Profile`.
        prompts: number of texts to count too; SLLM's tables include one.
    """
    num_frames, size = num_frames or config.num_frames, config.frame_size
    with torch.device("meta"):
        model = AutoModel.from_config(deepcopy(config), dtype=torch.float32).eval()
        pixels = torch.empty(1, config.encoded_frames(num_frames), 3, size, size)
        text = None
        if config.reads_text:
            width, length = config.projection_dim, config.text_config.max_position_embeddings
            words, mask = torch.empty(1, length, width), torch.ones(1, length, dtype=torch.bool)
            text = TextFeatures(embeds=torch.empty(1, 1, width), words=words, word_mask=mask)
    model.freeze()
    parameters, trainable = _count_parameters(model, flops)
    for module in model.modules():
        if isinstance(module, LastLayer | MergingLayer):
            module.skips_unread = False
    model.requires_grad_(False)  # `FlopCounterMode` would look for gradients of the outputs
    count = _count_modules if flops == "paper" else _count_products
    macs = count(model, pixel_values_videos=pixels, text_features=text)
    if prompts:
        shape = (prompts, config.text_config.max_position_embeddings)
        macs += count(_find_text_tower(model), input_ids=torch.zeros(shape, dtype=torch.long, device="meta"))
    return Profile(parameters, trainable, macs / 1e9, flops, num_frames, size)


def _find_text_tower(model: VideoRecognizer) -> nn.Module:
    """Return the text tower, of the model or of the recognizer that it wraps."""
    module: nn.Module
    for name, module in model.named_modules():
        if name.rpartition(".")[2] == "text_model":
            return module
    raise ValueError(f"{type(model).__name__} has no text tower, so it reads no prompts. Leave --prompts out.")


def _is_counted_in_papers(name: str, module: nn.Module) -> bool:
    """Check whether a counter with hooks sees a layer: attention there is `nn.MultiheadAttention`, projections bare."""
    if not isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        return False
    return "self_attn" not in name and not name.endswith("_projection")


def _count_parameters(model: VideoRecognizer, flops: Convention) -> tuple[int, int]:
    """Count all and the trainable parameters that act on videos."""
    if flops == "paper":
        layers = [(name, m) for name, m in model.named_modules() if _is_counted_in_papers(name, m)]
        named = [(name, parameter) for name, layer in layers for parameter in layer.parameters(recurse=False)]
    else:
        named = list(model.named_parameters())
    counted = [parameter for name, parameter in named if not _NOT_VIDEO & set(name.split("."))]
    return sum(p.numel() for p in counted), sum(p.numel() for p in counted if p.requires_grad)


def _count_products(model: nn.Module, **inputs: Any) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(**inputs)
    return int(counter.get_total_flops()) // 2


def _count_modules(model: nn.Module, **inputs: Any) -> int:
    macs = 0

    def add(module: nn.Module, _: tuple[Any, ...], output: torch.Tensor) -> None:
        nonlocal macs
        macs += output.numel() * module.get_parameter("weight")[0].numel()

    hooks = [m.register_forward_hook(add) for name, m in model.named_modules() if _is_counted_in_papers(name, m)]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return macs
