"""Conversion of Text4Vis' official checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kinoclip.methods.text4vis.configuration_text4vis import Text4VisConfig
from kinoclip.methods.text4vis.modeling_text4vis import Text4VisModel
from kinoclip.methods.text4vis.resnet import holds_resnet, infer_resnet_fields, resnet_to_transformers
from kinoclip.modeling.checkpoints import (
    StateDict,
    clip_to_transformers,
    count_parts,
    head_to_transformers,
    infer_text_fields,
    infer_vision_fields,
    load_strictly,
    read_checkpoint,
    strip_prefix,
)
from kinoclip.modeling.clip_recognizer import TEXT_TOWER, ClipRecognizer

_TEXT_OF_OPENAI = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.", "text_projection")
_HEAD = "fusion_model."


def convert_text4vis(checkpoint: str | Path, clip: str | Path | None = None, **fields: Any) -> Text4VisModel:
    """Build Text4Vis from an official checkpoint: that of `train.py`, which has no text tower, or of `train_nce.py`.

    `clip` is the CLIP that training started from, whose text tower makes the classifier: a folder, a hub id, or a file in OpenAI's
    layout. Without it a checkpoint of `train.py` becomes a model without text tower. `fields` are config fields that cannot be
    inferred from a checkpoint, such as `num_frames` or `temporal_shift="token_shift"`.
    """
    official, head = _read_parts(checkpoint)
    found = _vision_fields(official)
    if found.get("joint_space_time") or fields.get("joint_space_time"):
        head = {}  # the official code creates one, but does not apply it to the one vector of a video
    found["temporal_head"] = "transformer" if head else "none"
    if head:
        found["temporal_layers"] = count_parts(head, r"transformer\.resblocks\.(\d+)\.")
    text = {name: t for name, t in official.items() if name.startswith(_TEXT_OF_OPENAI)}
    if text:  # `train_nce.py` saves the whole CLIP
        found |= {"text_config": infer_text_fields(text), "loss": "symmetric_kl"}
        text = clip_to_transformers(text)
    elif clip is not None:
        text, found["text_config"] = _read_text_tower(clip)
        width = text["text_projection.weight"].shape[0]
        if width != found["projection_dim"]:
            raise ValueError(
                f"The texts of {clip} must have {found['projection_dim']} dimensions as the videos of {checkpoint}, got {width}. "
                "Name the CLIP that training started from."
            )
    else:
        found |= {"text_config": _guess_text_tower(checkpoint, found, bool(head)), "text_tower": False}
    rest = {name: t for name, t in official.items() if not name.startswith(("visual.", *_TEXT_OF_OPENAI))}
    state = _vision_to_transformers(official) | text | head_to_transformers(head) | rest
    config = Text4VisConfig(**{**found, **fields})
    return load_strictly(Text4VisModel, config, state, source=str(checkpoint))


def _read_parts(path: str | Path) -> tuple[StateDict, StateDict]:
    """Split a checkpoint into its CLIP, or the part of one that it has, and its temporal head."""
    content = read_checkpoint(path)
    model, fusion = content.get("model_state_dict"), content.get("fusion_model_state_dict", {})
    whole = isinstance(model, Mapping) and isinstance(fusion, Mapping)
    official = strip_prefix(model) if whole else {}
    if "logit_scale" not in official or not any(name.startswith("visual.") for name in official):
        raise ValueError(
            f"{path} is not a checkpoint of Text4Vis: it must hold `model_state_dict` with `visual.*` and `logit_scale`, got "
            f"{', '.join(map(str, list(content)[:4]))}. For a plain CLIP file use `Text4VisModel.from_clip`."
        )
    head = {name.removeprefix(_HEAD): t for name, t in official.items() if name.startswith(_HEAD)}
    rest = {name: t for name, t in official.items() if not name.startswith(_HEAD)}
    return rest, head | strip_prefix(fusion)


def _vision_to_transformers(official: Mapping[str, Tensor]) -> StateDict:
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
    """Remove what TSM adds to a name: it wraps the layer whose input is shifted, as `net`."""
    return name.replace(".net.", ".")


def _vision_fields(official: Mapping[str, Tensor]) -> dict[str, Any]:
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
    """Load the text tower of a CLIP under Transformers' names, and its config fields."""
    if Path(clip).is_file():
        content = read_checkpoint(clip)
        official = {name: t for name, t in content.items() if name.startswith(_TEXT_OF_OPENAI)}
        return clip_to_transformers(official), infer_text_fields(official)
    model = ClipRecognizer.from_clip(clip)
    state = {name: t for name, t in model.state_dict().items() if name.startswith(TEXT_TOWER)}
    return state, model.config.text_config.to_dict()


def _guess_text_tower(path: str | Path, found: Mapping[str, Any], has_head: bool) -> dict[str, Any]:
    """Guess the width of the missing text tower, which decides the number of the head's attention heads."""
    shared, vision = found["projection_dim"], found["vision_config"]["hidden_size"]
    # OpenAI's CLIPs: only RN50 has a text tower narrower than the shared space
    width = 512 if (shared, vision) == (1024, 2048) and "resnet_layers" in found else shared
    if has_head and width not in (512, 640, 768, 1024):
        raise ValueError(
            f"The number of attention heads in the temporal head of {path} is unknown, since it is not one of OpenAI's CLIPs. "
            "Name the CLIP that training started from (`--clip`)."
        )
    return {"hidden_size": width, "num_attention_heads": max(1, width // 64), "projection_dim": shared}
