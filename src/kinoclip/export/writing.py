"""Export of a recognizer to a folder of ONNX graphs, and comparison of the graphs with the recognizer."""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor

from kinoclip.export.exported import ExportedRecognizer
from kinoclip.export.graphs import check_libraries, write_graph
from kinoclip.export.manifest import CANDIDATES, DType, GraphSpec, Manifest
from kinoclip.export.stages import (
    ATTRIBUTES,
    FUSED,
    HEAD_WITH_ATTRIBUTES,
    PARTS,
    Examples,
    find_stages,
)
from kinoclip.modeling.recognizer import VideoRecognizer, evaluation_mode
from kinoclip.storage import atomic_folder

# Graphs compute the same operations as the model, in another order.
TOLERANCE = 1e-4


def export_recognizer(
    model: VideoRecognizer,
    processor: Any,
    output: str | Path,
    *,
    format: str = "onnx",
    parts: Sequence[str] | None = None,
    dtype: DType = "float32",
    num_frames: int | None = None,
    fused: bool = False,
    source: str = "",
) -> Iterator[str]:
    """Write a recognizer as graphs, compare them with it, and yield a line about each step.

    Args:
        model: in float32 on the CPU; its training mode is restored.
        processor: its processor.
        output: a new or empty folder, written atomically.
        format: "onnx".
        parts: of `PARTS`; all that the model has by default.
        dtype: of the computation; inputs and outputs are float32. "int8", for ONNX Runtime, and "openvino-int8", for OpenVINO,
            have 8-bit weights and quantize activations as they come.
        num_frames: frames per video; that of the processor by default.
        fused: write one graph from pixels to the logits of the model's own labels instead of parts.
        source: name of the model in the manifest.

    Raises:
        ImportError: a library is missing.
        RuntimeError: the graphs differ from the model; nothing is written.
        ValueError: an argument is invalid or not possible for this model.
    """
    output = Path(output)
    parts = None if parts is None else tuple(parts)
    _check_request(model, output, format, dtype, parts, fused)
    if num_frames is not None:
        if num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {num_frames}.")
        processor = copy.deepcopy(processor)
        processor.video_processor.num_frames = num_frames
    libraries = ("kinoclip", "torch", "transformers", "onnx", "onnxruntime")
    manifest = Manifest(dtype, model.config.model_type, source, {}, {name: version(name) for name in libraries})
    with evaluation_mode(model), atomic_folder(output) as folder:
        yield from _write(model, processor, folder, manifest, (FUSED,) if fused else parts)
    yield f"wrote {output}: {', '.join(sorted(path.name for path in output.iterdir()))}"


def compare_export(model: VideoRecognizer, processor: Any, folder: str | Path) -> Iterator[str]:
    """Compare an existing export with its model, in float32 on the CPU, and yield a line about the difference.

    Raises:
        RuntimeError: they differ by more than `TOLERANCE`.
        ValueError: the folder is not an export, or is one of another method.
    """
    exported = ExportedRecognizer(folder)
    if exported.config.model_type != model.config.model_type:
        raise ValueError(
            f"{folder} was exported from a {exported.config.model_type} model, got a {model.config.model_type} model. "
            "Compare it with the original model."
        )
    dims = [spec.dims[1] for g in exported.graphs.values() for spec in g.spec.inputs if "frame" in spec.name]
    num_frames = dims[0] if dims and isinstance(dims[0], int) else _encoded_frames(model, processor)
    yield _check(compare(model.eval(), processor, exported, num_frames), exported.manifest.dtype)


def _encoded_frames(model: VideoRecognizer, processor: Any) -> int:
    return model.config.encoded_frames(processor.video_processor.num_frames)


def _check_request(
    model: VideoRecognizer, output: Path, format: str, dtype: DType, parts: Sequence[str] | None, fused: bool
) -> None:
    if format != "onnx":
        raise ValueError(f"format must be 'onnx', got {format!r}. Exports of torch.export (.pt2) are not supported.")
    if dtype not in get_args(DType):
        raise ValueError(f"dtype must be one of {', '.join(get_args(DType))}, got {dtype!r}.")
    if fused and parts is not None:
        raise ValueError("A fused export is a single graph without parts. Leave out either fused or parts.")
    unknown = [part for part in parts or () if part not in PARTS]
    if unknown or parts == ():
        raise ValueError(f"parts must be of {', '.join(PARTS)}, got {', '.join(map(repr, unknown)) or 'none'}.")
    if model.dtype != torch.float32 or model.device.type != "cpu":
        raise ValueError(
            f"The model must be in float32 on the CPU, got {model.dtype} on {model.device}. The argument dtype sets the "
            "data type of the graphs."
        )
    if "frames" in (model.further_inputs[name] for name in model.used_inputs()):
        raise ValueError("Graphs encode frames from pixels alone. Export a model without time_aware.")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"The output {output} exists and is not an empty folder. Name a new one.")
    check_libraries("onnx", "onnxscript", "onnxruntime", *(("openvino", "nncf") if dtype == "openvino-int8" else ()))


def _write(
    model: VideoRecognizer, processor: Any, folder: Path, manifest: Manifest, parts: Sequence[str] | None
) -> Iterator[str]:
    num_frames = _encoded_frames(model, processor)
    examples = Examples(model, processor, _traced_frames(model, processor, num_frames))
    if parts is None:
        parts = PARTS if examples.reads_text else [part for part in PARTS if part != "text"]
    for stage in find_stages(examples, parts):
        spec = write_graph(model, stage, folder, dtype=manifest.dtype)
        manifest.graphs[stage.name] = spec
        yield _describe(folder, spec)
    manifest = replace(manifest, frames_alone=model.encodes_frames_alone)
    config, own = copy.deepcopy(model.config), model.candidates()
    if own is not None:
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in own.tensors().items()}
        save_file({f"candidate_{name}": tensor for name, tensor in tensors.items()}, folder / CANDIDATES)
        config.candidate_shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    manifest.save(folder)
    exported = ExportedRecognizer(folder)
    if "text" not in parts and {"head", FUSED} & set(parts):
        yield "labels: the model's own" if own is not None else "labels: not encoded by any graph"
    if not _has_dynamic_frames(exported):
        yield f"frames: exactly {num_frames}, fixed by this model"
    comparison = compare(model, processor, exported, num_frames)
    yield _check(comparison, manifest.dtype)
    same_best = (comparison.same_best, comparison.answers) if comparison.answers else None
    replace(manifest, difference=comparison.difference, same_best=same_best).save(folder)


def _traced_frames(model: VideoRecognizer, processor: Any, num_frames: int) -> int:
    """Return the number of frames to trace with: at least three, because tracers specialize on fewer."""
    if num_frames < 3:
        try:
            with torch.no_grad():
                model.encode_frames(Examples(model, processor, 3).pixels(1))
        except ValueError:  # the method takes its own number of frames only
            return num_frames
        return 3
    return num_frames


def _describe(folder: Path, spec: GraphSpec) -> str:
    size = sum(path.stat().st_size for path in folder.glob(f"{Path(spec.file).stem}.*")) / 1e6
    inputs, outputs = (", ".join(map(str, tensors)) for tensors in (spec.inputs, spec.outputs))
    return f"{spec.file} ({size:.1f} MB): {inputs} -> {outputs}"


@dataclass
class Comparison:
    """The difference of an export from its model."""

    # largest absolute difference of frames, text and logits, relative to the largest value (of logits, at least 1)
    difference: dict[str, float] = field(default_factory=dict)
    same_best: int = 0  # answers with the same best label
    answers: int = 0

    def add(self, name: str, actual: Tensor, expected: Tensor) -> None:
        """Add a pair of outputs."""
        scale = expected.abs().max().clamp_min(1.0 if name == "logits" else 1e-12)
        value = ((actual - expected).abs().max() / scale).item()
        self.difference[name] = max(self.difference.get(name, 0.0), value, key=_nan_last)
        if name == "logits":
            self.same_best += int((actual.argmax(-1) == expected.argmax(-1)).sum())
            self.answers += len(expected)


def _nan_last(value: float) -> tuple[bool, float]:
    return value != value, value


def _check(comparison: Comparison, dtype: DType) -> str:
    """Describe the difference; raise a `RuntimeError` for NaN, or more than `TOLERANCE` in float32."""
    largest = max(comparison.difference.values(), key=_nan_last)
    limit = TOLERANCE if dtype == "float32" else float("inf")
    if not largest <= limit:
        raise RuntimeError(
            f"The graphs differ from the model by {largest:.1e}; at most {limit:.0e} is allowed. Check that this is the exported "
            "model. If it is, report the model and the versions of the libraries."
        )
    values = ", ".join(f"{name} {value:.1e}" for name, value in comparison.difference.items())
    same = f"; the same best label in {comparison.same_best} of {comparison.answers}" if comparison.answers else ""
    return f"largest difference to the model on random inputs, relative to the largest value: {values}{same}"


@torch.no_grad()
def compare(model: VideoRecognizer, processor: Any, exported: ExportedRecognizer, num_frames: int) -> Comparison:
    """Run an export and its model, in evaluation mode, on the same random inputs, of other sizes than the trace."""
    comparison = Comparison()
    other = num_frames - 1 if num_frames > 2 else num_frames + 1
    lengths = [num_frames, other if _has_dynamic_frames(exported) else num_frames]
    for seed, (videos, length, labels) in enumerate(zip((1, 3), lengths, (5, 4), strict=True)):
        _compare_once(Examples(model, processor, length, seed + 1), exported, videos, labels, comparison)
    return comparison


def _has_dynamic_frames(exported: ExportedRecognizer) -> bool:
    return all("frames" in graph.spec.limits for name, graph in exported.graphs.items() if name != "text")


def _compare_once(
    examples: Examples, exported: ExportedRecognizer, videos: int, labels: int, comparison: Comparison
) -> None:
    model, graphs, pixels = examples.model, exported.graphs, examples.pixels(videos)
    if FUSED in graphs:
        comparison.add("logits", exported(pixel_values_videos=pixels).logits, model(pixel_values_videos=pixels).logits)
        return
    frames = graph_frames = model.encode_frames(pixels)
    if "frames" in graphs:
        graph_frames = exported.encode_frames(pixels)
        comparison.add("frames", graph_frames.embeds, frames.embeds)
    heads = [name for name in ("head", HEAD_WITH_ATTRIBUTES) if name in graphs]
    if "text" in graphs:
        inputs = examples.texts(labels)
        text, graph_text = model.encode_text(**inputs), exported.encode_text(**inputs)
        comparison.add("text", graph_text.embeds, text.embeds)
    elif heads:
        text = graph_text = examples.candidates(labels)
    for name in heads:
        attributes = None if name == "head" else examples.attributes(videos)
        inputs = {} if attributes is None else {ATTRIBUTES: attributes}
        expected = model(frame_features=frames, text_features=text, **inputs)
        actual = exported(frame_features=graph_frames, text_features=graph_text, **inputs)
        comparison.add("logits", actual.logits, expected.logits)
