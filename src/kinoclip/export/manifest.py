"""`export.json`: inputs and outputs of the graphs in a folder, their origin, and their difference from the model."""

import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kinoclip.storage import claimed, write_json
from kinoclip.text.parsing import load_json

MANIFEST = "export.json"
CANDIDATES = "candidates.safetensors"
# Version of the layout; folders with another number are refused.
VERSION = 1

DType = Literal["float32", "int8", "openvino-int8"]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph."""

    name: str
    dtype: str  # as torch names it
    dims: list[int | str]  # sizes; a name, or an expression of names, for a dynamic size

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.dims))})"


@dataclass(frozen=True)
class GraphSpec:
    """A graph, with inputs and outputs in its order."""

    file: str  # in the folder
    inputs: list[TensorSpec]
    outputs: list[TensorSpec]
    limits: dict[str, tuple[int, int | None]]  # name of a dynamic size to its minimum and maximum; None for no maximum


@dataclass(frozen=True)
class Manifest:
    """The content of a folder of graphs."""

    dtype: DType  # of the computation; inputs and outputs are float32
    method: str  # model type of the recognizer
    source: str  # name of the model
    graphs: dict[str, GraphSpec]
    versions: dict[str, str]  # of the libraries that wrote the graphs
    opset: int | None = None  # of ONNX
    # largest absolute difference from the model, relative to the largest value, of features and logits
    difference: dict[str, float] = field(default_factory=dict)
    same_best: tuple[int, int] | None = None  # random videos with the same best label, and all of them
    format: Literal["onnx"] = "onnx"
    frames_alone: bool = False  # whether the features of a frame depend on this frame only

    def save(self, folder: Path) -> None:
        """Write the manifest into a folder."""
        write_json(folder / MANIFEST, {"kinoclip_export": VERSION, **asdict(self)}, owns=claimed)


def read_manifest(folder: str | Path) -> Manifest:
    """Read the manifest of an export and check that its files exist.

    A missing folder is a `FileNotFoundError`; one that is not a complete export of this version a `ValueError`.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not folder.exists():
        raise FileNotFoundError(f"The export {folder} does not exist.")
    if not path.is_file():
        raise ValueError(
            f"{folder} is not an export: it has no {MANIFEST}. Make one with `kinoclip export MODEL --output DIR`."
        )
    try:
        fields = load_json(path.read_text(encoding="utf-8"))
        version = fields.pop("kinoclip_export")
        manifest = _build(fields) if version == VERSION else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a valid manifest: {type(error).__name__}, {error}.") from error
    if manifest is None:
        raise ValueError(f"{path} has layout {version}; this version reads layout {VERSION}. Export the model again.")
    if manifest.format != "onnx":
        raise ValueError(
            f"{path} has the format {manifest.format!r}; this version reads onnx only. Export the model again."
        )
    for graph in manifest.graphs.values():
        if not re.fullmatch(r"[a-z_]+\.(onnx|xml)", graph.file):
            raise ValueError(f"{path} names {graph.file!r}, which is not a file of an export.")
        if not (folder / graph.file).is_file():
            raise ValueError(f"{folder} is incomplete: {graph.file}, named in {MANIFEST}, is missing.")
    return manifest


def _build(fields: dict[str, Any]) -> Manifest:
    same = fields.pop("same_best")
    graphs = {
        name: GraphSpec(
            str(graph["file"]),
            [TensorSpec(**tensor) for tensor in graph["inputs"]],
            [TensorSpec(**tensor) for tensor in graph["outputs"]],
            {size: (int(low), None if high is None else int(high)) for size, (low, high) in graph["limits"].items()},
        )
        for name, graph in fields.pop("graphs").items()
    }
    return Manifest(**fields, graphs=graphs, same_best=None if same is None else (int(same[0]), int(same[1])))
