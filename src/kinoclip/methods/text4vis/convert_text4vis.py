"""Text4Vis' official checkpoints: what they hold, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from kinoclip.conversion import (
    StateDict,
    clip_to_transformers,
    head_to_transformers,
    infer_text_fields,
    infer_vision_fields,
    load_strictly,
    read_checkpoint,
    strip_prefix,
)

from .configuration_text4vis import Text4VisConfig
from .modeling_text4vis import Text4VisModel
from .resnet_names import holds_resnet, infer_resnet_fields, resnet_to_transformers

_TEXT_TOWER = ("text_model.", "text_projection.")
_TEXT_OF_OPENAI = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
_HEAD = "fusion_model."


def convert_text4vis(checkpoint: str | Path, clip: str | Path | None = None, **fields: Any) -> Text4VisModel:
    """Build Text4Vis from an official checkpoint: that of `train.py`, which has no text tower, or of `train_nce.py`.

    Args:
        checkpoint: `model_state_dict`, and `fusion_model_state_dict` from `train_nce.py`.
        clip: the CLIP that training started from, whose text tower makes the classifier: a folder, a hub id, or a file in
            OpenAI's layout. Without it a checkpoint of `train.py` becomes a model without text tower.
        fields: config fields that a checkpoint does not tell, such as `num_frames` or `temporal_shift="token_shift"`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file is no Text4Vis checkpoint or no CLIP, or weights are missing or left over.
    """
    official, head = _read_parts(checkpoint)
    found = _vision_fields(official)
    if found.get("joint_space_time") or fields.get("joint_space_time"):
        head = {}  # the official code makes one, but one vector for a whole video does not pass through it
    found["temporal_head"] = "transformer" if head else "none"
    if head:
        found["temporal_layers"] = len({name.split(".")[2] for name in head if name.startswith("transformer.")})
    text = {name: t for name, t in official.items() if name.startswith(_TEXT_OF_OPENAI)}
    if text:  # `train_nce.py` saves the whole CLIP
        found |= {"text_config": infer_text_fields(text), "loss": "symmetric_kl"}
        text = clip_to_transformers(text)
    elif clip is not None:
        text, found["text_config"] = _read_text_tower(clip)
        width = text["text_projection.weight"].shape[0]
        if width != found["projection_dim"]:
            raise ValueError(
                f"The texts of {clip} have {width} dimensions, but the videos of {checkpoint} "
                f"{found['projection_dim']}. Give the CLIP that training started from."
            )
    else:
        found |= {"text_config": _guess_text_tower(checkpoint, found, bool(head)), "text_tower": False}
    rest = {name: t for name, t in official.items() if not name.startswith(("visual.", *_TEXT_OF_OPENAI))}
    state = _vision_to_transformers(official) | text | head_to_transformers(head) | rest
    config = Text4VisConfig(**{**found, **fields})
    return load_strictly(Text4VisModel, config, state, source=str(checkpoint))


def _read_parts(path: str | Path) -> tuple[StateDict, StateDict]:
    """Split a checkpoint in its CLIP, or what it has of one, and its temporal head."""
    content = read_checkpoint(path)
    model, fusion = content.get("model_state_dict"), content.get("fusion_model_state_dict", {})
    whole = isinstance(model, Mapping) and isinstance(fusion, Mapping)
    official = strip_prefix(model) if whole else {}
    if "logit_scale" not in official or not any(name.startswith("visual.") for name in official):
        raise ValueError(
            f"{path} is no Text4Vis checkpoint: it has no `model_state_dict` with `visual.*` and `logit_scale`, but "
            f"{', '.join(map(str, list(content)[:4]))}. For a plain CLIP file use `Text4VisModel.from_clip`."
        )
    head = {name.removeprefix(_HEAD): t for name, t in official.items() if name.startswith(_HEAD)}
    rest = {name: t for name, t in official.items() if not name.startswith(_HEAD)}
    return rest, head | strip_prefix(fusion)


def _vision_to_transformers(official: Mapping[str, Tensor]) -> StateDict:
    """Name the weights of the vision tower."""
    state = {_unwrap(name): t for name, t in official.items() if name.startswith("visual.")}
    if holds_resnet(state):
        return resnet_to_transformers(state)
    renamed = clip_to_transformers(
        {name.replace("control_point.conv.", "temporal_conv."): t for name, t in state.items()}
    )
    if "visual.time_embedding" in renamed:
        renamed["vision_model.embeddings.time_embedding.weight"] = renamed.pop("visual.time_embedding")
    return renamed


def _unwrap(name: str) -> str:
    """Take away what TSM adds to a name: the layer whose input is shifted is `net` inside of the one that shifts."""
    return name.replace(".net.", ".")


def _vision_fields(official: Mapping[str, Tensor]) -> dict[str, Any]:
    """Tell the config fields that the weights of the vision tower show.

    Raises:
        ValueError: they are no vision tower of CLIP.
    """
    found: dict[str, Any] = {}
    if any(".net." in name for name in official):
        found["temporal_shift"] = "tsm"
    elif any(".control_point." in name for name in official):
        found["temporal_shift"] = "token_t1d"
    state = {_unwrap(name): t for name, t in official.items()}
    if holds_resnet(state):
        return found | infer_resnet_fields(state)
    vision = infer_vision_fields(state)
    found |= {"vision_config": vision, "projection_dim": vision["projection_dim"]}
    if "visual.time_embedding" in state:
        found |= {"joint_space_time": True, "num_frames": len(state["visual.time_embedding"])}
    return found


def _read_text_tower(clip: str | Path) -> tuple[StateDict, dict[str, Any]]:
    """Read the text tower of a CLIP, under Transformers' names, and its sizes."""
    if Path(clip).is_file():
        content = read_checkpoint(clip)
        official = {name: t for name, t in content.items() if name.startswith(_TEXT_OF_OPENAI)}
        return clip_to_transformers(official), infer_text_fields(official)
    try:
        model_type = CLIPConfig.get_config_dict(clip)[0].get("model_type")
    except OSError as error:
        raise ValueError(
            f"No CLIP could be read from {clip}. Give a CLIP folder, hub id or OpenAI-layout file."
        ) from error
    if model_type != "clip":
        raise ValueError(f"{clip} is no CLIP checkpoint. Give a CLIP folder, hub id or OpenAI-layout file.")
    model: CLIPModel
    report: dict[str, Any]
    model, report = CLIPModel.from_pretrained(clip, dtype=torch.float32, output_loading_info=True)
    missing = sorted(name for name in report["missing_keys"] if name.startswith(_TEXT_TOWER))
    if missing:
        raise ValueError(f"{clip} lacks {len(missing)} weights of CLIP, first {missing[0]}. Is it whole?")
    state = {name: t for name, t in model.state_dict().items() if name.startswith(_TEXT_TOWER)}
    return state, model.config.text_config.to_dict()


def _guess_text_tower(path: str | Path, found: Mapping[str, Any], has_head: bool) -> dict[str, Any]:
    """Give the width of the absent text tower, which decides the number of the head's attention heads."""
    shared, vision = found["projection_dim"], found["vision_config"]["hidden_size"]
    # OpenAI's CLIPs: only RN50 has a text tower narrower than the shared space
    width = 512 if (shared, vision) == (1024, 2048) and "resnet_layers" in found else shared
    if has_head and width not in (512, 640, 768, 1024):
        raise ValueError(
            f"{path} does not tell how many attention heads its temporal head has: it is none of OpenAI's CLIPs. "
            "Give the CLIP that training started from (`--clip`)."
        )
    return {"hidden_size": width, "num_attention_heads": max(1, width // 64), "projection_dim": shared}
