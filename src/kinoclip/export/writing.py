"""A recognizer to a folder of graphs."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from kinoclip.outputs import TextFeatures
from kinoclip.recognizer import VideoRecognizer

from .comparing import TOLERANCE, Comparison, compare, takes_any_frames
from .exported import ExportedRecognizer
from .graphs import check_libraries, write_graph
from .manifest import CANDIDATES, DType, Format, GraphSpec, Manifest
from .stages import FUSED, PARTS, Examples, find_stages, text_to_tensors
from .tracing import trace

_DTYPES: dict[Format, tuple[DType, ...]] = {"onnx": ("float32", "int8"), "torch": ("float32", "bfloat16")}


def export_recognizer(
    model: VideoRecognizer,
    processor: Any,
    output: str | Path,
    *,
    format: Format = "onnx",
    parts: Sequence[str] | None = None,
    dtype: DType = "float32",
    num_frames: int | None = None,
    fused: bool = False,
    source: str = "",
) -> Iterator[str]:
    """Write a recognizer as graphs, compare them with it, and say line by line what was done.

    Args:
        model: in float32 on the CPU; it is left in the mode it came in.
        processor: its processor, or its video processor alone.
        output: a new or empty folder; it appears whole or not at all.
        format: "onnx" for ONNX Runtime and others, "torch" for programs of `torch.export`.
        parts: which of `PARTS` to write; all that the model has when left out.
        dtype: what the graphs compute in: "bfloat16" for torch, "int8" for ONNX; what they take and give stays float32.
        num_frames: of a video, where it is not the processor's own number.
        fused: write one graph from pixels to the logits of the model's own labels, instead of parts.
        source: what the model is called in the manifest.

    Raises:
        ImportError: a library for ONNX is missing.
        RuntimeError: the graphs do not agree with the model; nothing was written.
        ValueError: something that was asked for is unknown or impossible; the message says what is.
    """
    output = Path(output)
    parts = None if parts is None else tuple(parts)
    _check_request(model, output, format, dtype, parts, fused)
    if num_frames is not None:
        if num_frames < 1:
            raise ValueError(f"num_frames is {num_frames}. Look at one frame at least.")
        processor = copy.deepcopy(processor)
        getattr(processor, "video_processor", processor).num_frames = num_frames
    skeleton = Manifest(format, dtype, model.config.model_type, source, {}, _versions(format))
    was_training = model.training
    model.eval()
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        yield from _write(model, processor, partial, skeleton, (FUSED,) if fused else parts)
        partial.chmod(0o755)  # mkdtemp makes a private folder
        if output.exists():
            output.rmdir()
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        model.train(was_training)
    yield f"wrote {output}: {', '.join(sorted(path.name for path in output.iterdir()))}"


def compare_export(
    model: VideoRecognizer, processor: Any, folder: str | Path, *, trust: bool = False
) -> Iterator[str]:
    """Compare an export that is there with its model, and say how near it is.

    Args:
        model: in float32 on the CPU.
        processor: its processor.
        folder: as `export_recognizer` wrote it.
        trust: see `ExportedRecognizer`.

    Raises:
        RuntimeError: they do not agree.
        ValueError: the folder is no export, or one of another method.
    """
    exported = ExportedRecognizer(folder, trust=trust)
    if exported.config.model_type != model.config.model_type:
        raise ValueError(
            f"{folder} was made of a {exported.config.model_type} model, and this is a {model.config.model_type}. "
            "Compare it with the model that it was made of."
        )
    frames = next(
        (spec.dims[1] for g in exported.graphs.values() for spec in g.spec.inputs if "frame" in spec.name), 0
    )
    num_frames = frames if isinstance(frames, int) and frames else encoded_frames(model, processor)
    yield from _report(compare(model.eval(), processor, exported, num_frames), exported.manifest.dtype)


def encoded_frames(model: VideoRecognizer, processor: Any) -> int:
    """Give how many frames of a video go into a model, of those that its processor samples."""
    return model.config.encoded_frames(getattr(processor, "video_processor", processor).num_frames)


def _check_request(
    model: VideoRecognizer, output: Path, format: Format, dtype: DType, parts: Sequence[str] | None, fused: bool
) -> None:
    if format not in _DTYPES:
        raise ValueError(f"The format {format!r} is unknown. Known: {', '.join(_DTYPES)}.")
    if dtype not in _DTYPES[format]:
        raise ValueError(
            f"Graphs of {format} are not written in {dtype}: ONNX takes {' and '.join(_DTYPES['onnx'])} (ONNX Runtime "
            f"computes no bfloat16 on a CPU), torch {' and '.join(_DTYPES['torch'])}."
        )
    if fused and parts is not None:
        raise ValueError("One graph from video to logits has no parts. Leave one of the two out.")
    unknown = [part for part in parts or () if part not in PARTS]
    if unknown or parts == ():
        raise ValueError(f"There is no part {', '.join(map(repr, unknown)) or repr('')}. Parts: {', '.join(PARTS)}.")
    if model.dtype != torch.float32 or model.device.type != "cpu":
        raise ValueError(
            f"The model is {model.dtype} on {model.device}. Load it in float32 on the CPU; `dtype` says what the graphs "
            "shall compute in."
        )
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"{output} is there already, and is no empty folder. Name a new one.")
    if format == "onnx":
        check_libraries()


def _write(
    model: VideoRecognizer, processor: Any, folder: Path, manifest: Manifest, parts: Sequence[str] | None
) -> Iterator[str]:
    num_frames = encoded_frames(model, processor)
    cast = model if manifest.dtype != "bfloat16" else copy.deepcopy(model).bfloat16()
    examples = Examples(cast, processor, _traced_frames(cast, processor, num_frames))
    if parts is None:
        parts = PARTS if examples.reads_text else [part for part in PARTS if part != "text"]
    for stage in find_stages(examples, parts):
        program, spec = trace(cast, stage)
        manifest.graphs[stage.name] = write_graph(program, spec, folder, stage.name, manifest.format, manifest.dtype)
        yield _describe(folder, manifest.graphs[stage.name])
    _save_rest(model, processor, folder)
    manifest.save(folder)
    exported = ExportedRecognizer(folder, trust=True)
    if "text" not in parts and {"head", FUSED} & set(parts):
        yield "labels: the model's own" if model.candidates() is not None else "labels: no graph reads them"
    if not takes_any_frames(exported):
        yield f"frames: {num_frames} only, which this model fixes"
    comparison = compare(model, processor, exported, num_frames)
    yield from _report(comparison, manifest.dtype)
    same_best = (comparison.same_best, comparison.answers) if comparison.answers else None
    replace(manifest, difference=comparison.difference, same_best=same_best).save(folder)


def _traced_frames(model: VideoRecognizer, processor: Any, num_frames: int) -> int:
    """Give how many frames to trace with: three where fewer would fix the number, because tracers take a single gap as fixed."""
    try:
        if num_frames < 3:
            with torch.no_grad():
                model.encode_frames(Examples(model, processor, 3).pixels(1).to(model.dtype))
            return 3
    except ValueError:  # the method takes its own number only
        pass
    return num_frames


def _save_rest(model: VideoRecognizer, processor: Any, folder: Path) -> None:
    """Save the config, the processor, and the labels that the model carries."""
    config = copy.deepcopy(model.config)
    own = model.candidates()
    if own is not None:
        tensors = _without_prefix(own)
        save_file(tensors, folder / CANDIDATES)
        config.candidate_shapes = {name.removeprefix("candidate_"): list(t.shape) for name, t in tensors.items()}
    config.save_pretrained(folder)
    processor.save_pretrained(folder)


def _without_prefix(text: TextFeatures) -> dict[str, torch.Tensor]:
    """Name text features as a checkpoint names its candidates."""
    tensors = text_to_tensors(text)
    return {f"candidate_{name.removeprefix('text_')}": t.detach().clone().contiguous() for name, t in tensors.items()}


def _describe(folder: Path, spec: GraphSpec) -> str:
    size = sum(path.stat().st_size for path in folder.glob(f"{spec.file}*")) / 1e6
    inputs, outputs = (", ".join(map(str, tensors)) for tensors in (spec.inputs, spec.outputs))
    return f"{spec.file} ({size:.1f} MB): {inputs} -> {outputs}"


def _report(comparison: Comparison, dtype: DType) -> Iterator[str]:
    """Say how near an export is, and stop where it is too far.

    Raises:
        RuntimeError: float32 differs by more than `TOLERANCE`, or an output is no number.
    """
    shown = ", ".join(f"{name} {value:.1e}" for name, value in comparison.difference.items())
    same = f"; the same best label in {comparison.same_best} of {comparison.answers}" if comparison.answers else ""
    yield f"largest difference to the model on random inputs, relative to the largest value: {shown}{same}"
    limit = TOLERANCE if dtype == "float32" else float("inf")
    if not comparison.largest <= limit:
        raise RuntimeError(
            f"The graphs differ from the model by {comparison.largest:.1e}, where {limit:.0e} is allowed. Is it the "
            "model that they were made of? If so, report this with the model and the versions of the libraries."
        )


def _versions(format: Format) -> dict[str, str]:
    libraries = ("kinoclip", "torch", "transformers", *(("onnx", "onnxruntime") if format == "onnx" else ()))
    return {name: version(name) for name in libraries}
