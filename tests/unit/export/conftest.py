"""One tiny recognizer of each method, and its exports, made once."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import kinoclip
from kinoclip.export import export_recognizer
from kinoclip.methods import METHODS

# as small as a method can be: writing a graph takes seconds for each layer
_LAYER = {"num_hidden_layers": 1}
_RESNET = {
    "block": "basic",
    "stage_blocks": [1, 1, 1, 1],
    "stage_widths": [4, 4, 8, 8],
    "stem_width": 4,
    "image_size": 32,
    "num_frames": 4,
    "id2label": {0: "running", 1: "jumping", 2: "diving"},
}
_FIELDS: dict[str, dict[str, Any]] = {
    "bike": {"temporal_layers": 1},
    "text4vis": {"temporal_head": "none", "temporal_shift": "tsm"},
    "actionclip": {"temporal_layers": 1},
    "alt": {"merge_r": 1, "decoder_layers": 1},
    "dstpr": {},
    "sllm": {"recognizer": "text4vis", "rate": 2, "restorer_layers": 1, "temporal_head": "none"},
}


@pytest.fixture(scope="session")
def make(tiny_fields, tokenizer) -> Callable[..., tuple[Any, Any]]:
    """The function that makes a tiny recognizer of a method, and its processor."""
    towers = {name: {**tiny_fields[name], **_LAYER} for name in ("text_config", "vision_config")}
    fields = {**towers, "projection_dim": 32, "num_frames": 4}

    def build(method: str, **further: Any) -> tuple[Any, Any]:
        if method == "tam":
            torch.manual_seed(0)
            config = kinoclip.TamConfig(**_RESNET)
            return kinoclip.TamModel(config).eval(), kinoclip.TamProcessor.for_config(config, None)
        classes, own = METHODS[method], {**_FIELDS[method], **further}
        if method == "sllm":
            config = classes.config.from_clip_fields(
                {name: fields[name] for name in (*towers, "projection_dim")}, **own
            )
        else:
            config = classes.config(**{**fields, **own})
        torch.manual_seed(0)
        model = classes.model(config).eval()
        if method == "alt" and config.aligns:
            model.set_corpus(["an arm", "a ball", "water"], torch.randn(3, 32))
        options = {"templates": ["{}", "a video of {}."]} if method == "actionclip" else {}
        return model, classes.processor.for_config(config, tokenizer, **options)

    return build


@dataclass(frozen=True)
class Export:
    """A recognizer, its processor, the folder of its graphs, and what was said while they were written."""

    model: Any
    processor: Any
    folder: Path
    said: list[str]


@pytest.fixture(scope="session")
def export(make, tmp_path_factory) -> Callable[..., Export]:
    """The function that exports a tiny recognizer of a method; what one process has exported, all of them use."""
    ours = tmp_path_factory.getbasetemp()
    shared = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "exports"

    def write(
        method: str, format: str = "onnx", parts: tuple[str, ...] | None = None, dtype: str = "float32"
    ) -> Export:
        if format == "onnx":
            pytest.importorskip("onnxscript")
            pytest.importorskip("onnxruntime")
        model, processor = make(method)
        folder = shared / "-".join((method, format, *(parts or ("all",)), dtype))
        said = folder / "said.txt"
        if not said.exists():
            mine = tmp_path_factory.mktemp("export") / "new"
            lines = list(export_recognizer(model, processor, mine, format=format, parts=parts, dtype=dtype))
            (mine / "said.txt").write_text("\n".join(lines))
            shared.mkdir(exist_ok=True)
            with suppress(OSError):  # another process was faster
                mine.rename(folder)
        return Export(model, processor, folder, said.read_text().splitlines())

    return write
