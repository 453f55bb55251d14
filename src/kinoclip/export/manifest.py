"""`export.json`: what the graphs of a folder take and give, what they were made of, and how near they are to it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kinoclip.text.parsing import load_json

MANIFEST = "export.json"
CANDIDATES = "candidates.safetensors"
# of this layout; a folder with another number is refused
VERSION = 1

Format = Literal["onnx", "torch"]
DType = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that a graph takes or gives.

    Args:
        name: of it.
        dtype: as torch calls it.
        dims: sizes; a name, or a term of names, where the size may vary.
    """

    name: str
    dtype: str
    dims: list[int | str]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.dims))})"


@dataclass(frozen=True)
class GraphSpec:
    """A graph.

    Args:
        file: its name in the folder.
        inputs: in the order of the graph.
        outputs: likewise.
        limits: name of a size that may vary to the smallest and the largest one; None for any.
    """

    file: str
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    limits: dict[str, tuple[int, int | None]]


@dataclass(frozen=True)
class Manifest:
    """What a folder of graphs holds.

    Args:
        format: of the graphs.
        dtype: that they compute in; what they take and give is float32.
        method: the model type of the recognizer.
        source: what it was called.
        graphs: by name.
        versions: of the libraries that wrote them.
        opset: of ONNX.
        difference: the largest difference to the model, relative to its largest value, of features and logits.
        same_best: of how many answers to random videos the best label was the same, and how many there were.
    """

    format: Format
    dtype: DType
    method: str
    source: str
    graphs: dict[str, GraphSpec]
    versions: dict[str, str]
    opset: int | None = None
    difference: dict[str, float] = field(default_factory=dict)
    same_best: tuple[int, int] | None = None

    def save(self, folder: Path) -> None:
        """Write it into a folder."""
        text = json.dumps({"kinoclip_export": VERSION, **asdict(self)}, indent=2)
        (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: str | Path) -> Manifest:
    """Read the manifest of an export, and make sure that its files are there.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: it is no export, one of another version, or not whole.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not folder.exists():
        raise FileNotFoundError(f"There is no export {folder}.")
    if not path.is_file():
        raise ValueError(
            f"{folder} holds no {MANIFEST}, so it is no export. Make one with `kinoclip export MODEL --output DIR`."
        )
    try:
        fields = load_json(path.read_text(encoding="utf-8"))
        version = fields.pop("kinoclip_export")
        manifest = _build(fields) if version == VERSION else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no manifest of an export: {type(error).__name__}, {error}.") from error
    if manifest is None:
        raise ValueError(
            f"{path} has layout {version}, and this kinoclip reads layout {VERSION}. Export the model anew."
        )
    if manifest.format not in ("onnx", "torch"):
        raise ValueError(f"{path} names the format {manifest.format!r}. Known: onnx, torch.")
    for graph in manifest.graphs.values():
        if not re.fullmatch(r"[a-z_]+\.(onnx|pt2)", graph.file):
            raise ValueError(f"{path} names {graph.file!r}, which is no file of an export.")
        if not (folder / graph.file).is_file():
            raise ValueError(f"{folder} lacks {graph.file}, which its {MANIFEST} names. Is the folder whole?")
    return manifest


def _build(fields: dict[str, Any]) -> Manifest:
    graphs = {name: _build_graph(**graph) for name, graph in fields.pop("graphs").items()}
    same = fields.pop("same_best")
    return Manifest(**fields, graphs=graphs, same_best=None if same is None else (int(same[0]), int(same[1])))


def _build_graph(file: str, inputs: list[Any], outputs: list[Any], limits: dict[str, Any]) -> GraphSpec:
    return GraphSpec(
        str(file),
        [TensorSpec(**tensor) for tensor in inputs],
        [TensorSpec(**tensor) for tensor in outputs],
        {name: (int(least), None if most is None else int(most)) for name, (least, most) in limits.items()},
    )
