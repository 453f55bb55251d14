"""The same CLIP, of random weights, in kinoclip and in its peers: vision tower, text tower, whole recognizers."""

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from readers import image_processor
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import (
    AutoModel,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    XCLIPConfig,
    XCLIPModel,
    XCLIPProcessor,
)

from kinoclip import BikeProcessor
from kinoclip.export import export_recognizer, load_exported
from kinoclip.inference.backends import choose_dtype
from kinoclip.inference.encoding import compile_frames, encode_on_cores
from kinoclip.inference.profile import CLIP_SHAPES, clip_fields, profile_config
from kinoclip.methods.auto import mini_clip_path
from kinoclip.modeling.processing import RecognizerProcessor

# name of a backend to the data type of its graphs
BACKENDS = {
    "onnxruntime": "float32",
    "onnxruntime-int8": "int8",
    "openvino": "float32",
    "openvino-int8": "openvino-int8",
}
# exported graphs stay until the end, because a job hashes their files
_EXPORTS = tempfile.TemporaryDirectory(prefix="kinoclip-")
OPEN_CLIP = {"vitb32": "ViT-B-32", "vitb16": "ViT-B-16", "vitl14": "ViT-L-14"}
TIMM = {
    "vitb32": "vit_base_patch32_clip_quickgelu_224",
    "vitb16": "vit_base_patch16_clip_quickgelu_224",
    "vitl14": "vit_large_patch14_clip_quickgelu_224",
}


def build_kinoclip(clip: str, method: str = "bike", **fields) -> nn.Module:
    torch.manual_seed(0)
    return AutoModel.from_config(profile_config(method, clip=clip, **fields)).eval()


def build_open_clip(clip: str) -> nn.Module:
    """The forward of the authors' code is this one: both keep OpenAI's modules."""
    import open_clip

    torch.manual_seed(0)
    return open_clip.create_model(f"{OPEN_CLIP[clip]}-quickgelu").eval()


def build_timm(clip: str) -> nn.Module:
    import timm

    return timm.create_model(TIMM[clip], num_classes=CLIP_SHAPES[clip][-1]).eval()


def build_transformers(clip: str) -> nn.Module:
    config = CLIPVisionConfig(**clip_fields(clip)["vision_config"])
    return CLIPVisionModelWithProjection._from_config(config).eval()


def build_xclip() -> nn.Module:
    return XCLIPModel._from_config(XCLIPConfig()).eval()


def save_models(folder: Path) -> tuple[Path, Path]:
    """Write BIKE and X-CLIP of random weights as published models, with the same small tokenizer."""
    ours, theirs, tokenizer = folder / "bike", folder / "xclip", CLIPTokenizer.from_pretrained(mini_clip_path())
    models = {ours: build_kinoclip("vitb32"), theirs: build_xclip()}
    for place, model in models.items():
        model.config.text_config.eos_token_id = tokenizer.eos_token_id
        model.save_pretrained(place)
    BikeProcessor.for_config(models[ours].config, tokenizer).save_pretrained(ours)
    XCLIPProcessor(image_processor(), tokenizer).save_pretrained(theirs)
    return ours, theirs


def exports(model: nn.Module, parts: list[str], backends: Sequence[str]) -> dict[str, nn.Module]:
    """Give what `--backend` computes with, by its name: parts of a model as graphs."""
    processor, found = RecognizerProcessor.for_config(model.config, None), {}
    for name in backends:
        folder = Path(tempfile.mkdtemp(dir=_EXPORTS.name), name)
        try:
            for _ in export_recognizer(model, processor, folder, dtype=BACKENDS[name], parts=parts):
                pass
        except ImportError as error:
            print(f"{name} is left out: {error}")
            continue
        found[name] = load_exported(folder, "openvino" if name.startswith("openvino") else "onnxruntime")[0]
    return found


def auto_dtype(clip: str, device: str) -> torch.dtype:
    """Return the data type that the package chooses for a CLIP."""
    with torch.device("meta"):
        model = AutoModel.from_config(profile_config("bike", clip=clip))
    return choose_dtype("auto", torch.device(device), sum(weight.numel() for weight in model.parameters()))


def vision_towers(clip: str, device: str, dtype: torch.dtype) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what turns pixels (B, T, 3, H, W) into frame embeddings."""

    def place(model: nn.Module) -> nn.Module:
        return model.to(device, dtype)

    def fold(tower: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
        return tower(pixels.flatten(0, 1))

    builders = {
        "open_clip": lambda: place(build_open_clip(clip)).encode_image,
        "timm": lambda: place(build_timm(clip)),
        "transformers": lambda: place(build_transformers(clip)),
    }
    ours = place(build_kinoclip(clip, temporal_head="none"))
    # what `classify` calls
    towers: dict[str, Callable] = {"kinoclip": partial(encode_on_cores, ours)}
    if device == "cuda":
        compiled = place(build_kinoclip(clip, temporal_head="none"))
        compile_frames(compiled)
        towers["compile"] = partial(encode_on_cores, compiled)
    for name, builder in builders.items():
        towers[name] = partial(fold, found) if (found := unless_missing(name, builder)) else None
    return {name: tower for name, tower in towers.items() if tower is not None}


def unless_missing(name: str, builder: Callable) -> Callable | None:
    try:
        return builder()
    except ImportError as error:
        print(f"{name} is left out: {error}")
        return None


def authors_saliency(frames: Tensor, words: Tensor, sentences: Tensor) -> Tensor:
    """Score videos as BIKE's equations 3 to 6 stand there: all normalized, weighed and pooled for each call."""
    frames, words = normalize(frames, dim=-1), normalize(words, dim=-1)
    weights = (torch.einsum("btd,kld->bklt", frames, words) / 0.01).softmax(-1)
    pooled = torch.einsum("bklt,btd->bkld", weights, frames).mean(2)
    return torch.einsum("bkd,kd->bk", pooled, normalize(sentences, dim=-1))
