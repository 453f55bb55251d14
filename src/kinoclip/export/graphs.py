"""ONNX graphs: traced with `torch.export`, written, quantized, and run with ONNX Runtime or OpenVINO."""

import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kinoclip.export.manifest import DType, GraphSpec, TensorSpec
from kinoclip.export.stages import Stage, Tensors
from kinoclip.modeling.checkpoints import first_line
from kinoclip.modeling.precision import has_vnni, is_bf16_faster
from kinoclip.modeling.recognizer import VideoRecognizer

Runtime = Literal["onnxruntime", "openvino"]
_PIXELS = "pixel_values_videos"
# activations that share a scale in OpenVINO; larger groups are faster and change more answers
_GROUP_SIZE = 64


def check_libraries(*names: str) -> None:
    """Raise an `ImportError` if a library of the extras `export` and `openvino` is missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        extra = "openvino" if missing[0] in ("openvino", "nncf") else "export"
        raise ImportError(f"This graph needs {missing[0]}. Run `pip install 'kinoclip[{extra}]'`.")


# what suppresses messages is global, so that two threads would restore what the other one changed
_SILENCE = Lock()
# two threads whose first requests to OpenVINO (2026.4) run at the same time can wait for each other forever: one holds the
# interpreter, and the other the guard of a value that OpenVINO's binding makes once
_FIRST_USE = Lock()


@contextmanager
def silence() -> Iterator[None]:
    """Suppress the log messages and warnings that tracers write for their developers; one thread after another."""
    with _SILENCE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(before)


class _StageModule(nn.Module):
    """A stage with positional inputs and outputs."""

    def __init__(self, model: VideoRecognizer, stage: Stage):
        super().__init__()
        self.model, self.stage = model, stage

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.named_outputs(*tensors).values())

    def named_outputs(self, *tensors: Tensor) -> Tensors:
        outputs = self.stage.run(dict(zip(self.stage.inputs, tensors, strict=True)))
        return {name: t.float() if t.is_floating_point() else t for name, t in outputs.items()}


@silence()
@torch.no_grad()
def write_graph(model: VideoRecognizer, stage: Stage, folder: Path, *, dtype: DType = "float32") -> GraphSpec:
    """Trace a stage with all sizes dynamic that the method leaves open, and write it as ONNX into a folder.

    In 8 bits, matrix products are quantized if the stage reads pixels. A stage that cannot be traced is a `ValueError`.
    """
    module = _StageModule(model, stage)
    output_names = list(module.named_outputs(*stage.inputs.values()))
    axes = {name: stage.axes(name) for name in stage.inputs}
    shapes = tuple(dict.fromkeys(named, Dim.AUTO) for named in axes.values())
    try:
        program = torch.export.export(module, tuple(stage.inputs.values()), dynamic_shapes=(shapes,))
    except Exception as error:  # tracers raise errors of any kind
        raise ValueError(
            f"The part {stage.name} of this {type(model).__name__} cannot be traced: {type(error).__name__}, "
            f"{first_line(error)}"
        ) from error
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    inputs = [values[str(name)] for name in program.graph_signature.user_inputs]
    outputs = [values[str(name)] for name in program.graph_signature.user_outputs]
    names, limits = _read_sizes(program, inputs, axes)
    if "frames" in limits:
        limits["frames"] = (_min_frames(program, module), limits["frames"][1])
    if "labels" in limits and stage.max_labels is not None:
        limits["labels"] = (1, stage.max_labels)
    spec = GraphSpec(
        f"{stage.name}.onnx",
        [_describe(*pair, names) for pair in zip(stage.inputs, inputs, strict=True)],
        [_describe(*pair, names) for pair in zip(output_names, outputs, strict=True)],
        limits,
    )
    _write_onnx(program, spec, folder / spec.file)
    if _PIXELS in stage.inputs and dtype == "int8":
        _quantize(folder / spec.file)
    if _PIXELS in stage.inputs and dtype == "openvino-int8":
        return replace(spec, file=_quantize_for_openvino(folder / spec.file))
    return spec


def _read_sizes(
    program: ExportedProgram, inputs: list[Tensor], axes: dict[str, dict[int, str]]
) -> tuple[dict[str, str], dict[str, tuple[int, int | None]]]:
    """Return our name of each symbol of the tracer, and the limits of each name."""
    names: dict[str, str] = {}
    limits: dict[str, tuple[int, int | None]] = {}
    for tensor, named in zip(inputs, axes.values(), strict=True):
        for axis, name in named.items():
            size: Any = tensor.shape[axis]
            if _is_dynamic(size):
                names[str(size)] = name
                upper = program.range_constraints[size.node.expr].upper
                limits[name] = (1, int(upper) if upper.is_Integer else None)
    return names, limits


def _describe(name: str, tensor: Tensor, names: dict[str, str]) -> TensorSpec:
    dims: list[int | str] = []
    for size in tensor.shape:
        term = str(size)
        for symbol in sorted(names, key=len, reverse=True):
            term = term.replace(symbol, names[symbol])
        dims.append(term if _is_dynamic(size) else int(size))
    return TensorSpec(name, str(tensor.dtype).removeprefix("torch."), dims)


def _is_dynamic(size: Any) -> bool:
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


def _min_frames(program: ExportedProgram, module: _StageModule) -> int:
    """Return the smallest number of frames for which the graph equals the model; tracing loses branches for very few."""
    stage = module.stage
    for count in (1, 2):
        few = [t[:, :count] if stage.axes(name).get(1) == "frames" else t for name, t in stage.inputs.items()]
        try:
            actual, expected = program.module(check_guards=False)(*few), module(*few)
        except Exception:  # of either
            continue
        if all(torch.allclose(a.float(), b.float(), atol=1e-3) for a, b in zip(actual, expected, strict=True)):
            return count
    return 3


def _write_onnx(program: ExportedProgram, spec: GraphSpec, path: Path) -> None:
    import onnx_ir

    written = torch.onnx.export(
        program,
        input_names=[tensor.name for tensor in spec.inputs],
        output_names=[tensor.name for tensor in spec.outputs],
        verbose=False,
    )
    if written is None:
        raise RuntimeError(f"torch.onnx.export returned no graph for {path.name}.")
    graph = written.model.graph
    for node in graph:  # inner sizes have the tracer's names; the runtime infers them
        for value in node.outputs:
            value.shape = None
    for tensors, values in ((spec.inputs, graph.inputs), (spec.outputs, graph.outputs)):
        for tensor, value in zip(tensors, values, strict=True):
            value.shape = onnx_ir.Shape(tensor.dims)
    written.save(path)


def _quantize(path: Path) -> None:
    """Quantize the weights of all matrix products to 8 bits, and their inputs dynamically.

    The weights are unsigned: signed products overflow on processors without VNNI, which costs accuracy.

    Source: ONNX Runtime's dynamic quantization.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    path.unlink()
    del model.graph.value_info[:]  # the quantizer transposes some weights and would keep their old shapes
    quantize_dynamic(model, path, weight_type=QuantType.QUInt8, op_types_to_quantize=["MatMul", "Gemm"])


def _quantize_for_openvino(path: Path) -> str:
    """Quantize the weights of matrix products to 8 bits; return the name of the new file.

    OpenVINO quantizes activations as they come, see `_load_in_openvino`.
    """
    os.environ.setdefault("NNCF_CI", "1")  # it reports its use to a server otherwise
    import nncf
    import openvino

    with redirect_stdout(io.StringIO()):  # progress bars
        graph = nncf.compress_weights(openvino.Core().read_model(path), mode=nncf.CompressWeightsMode.INT8_ASYM)
    openvino.save_model(graph, path.with_suffix(".xml"), compress_to_fp16=False)
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    return path.with_suffix(".xml").name


# from the values of all inputs by name to those of all outputs in order
_Run = Callable[[dict[str, Any]], Sequence[Any]]


def _load_in_onnxruntime(path: Path, spins: bool) -> tuple[_Run, list[list[str]]]:
    """Load a graph; return a function that runs it, and the names of inputs and outputs.

    With `spins` its threads wait for work in a loop, which is faster where nothing else needs the cores, and sleep otherwise.
    """
    check_libraries("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spins else "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [[tensor.name for tensor in each] for each in (session.get_inputs(), session.get_outputs())]
    return partial(session.run, None), names


def _load_in_openvino(path: Path) -> tuple[_Run, list[list[str]]]:
    """Load a graph as `_load_in_onnxruntime`; it computes in bfloat16 where that is faster, or with 8-bit weights.

    A thread that has a share of torch's threads gets the same share of the cores, so that several can run it at the same time.

    With 8-bit weights, the activations of a product are quantized in groups of 64 as they come, on processors with VNNI
    instructions; elsewhere weights are converted to float32.
    """
    check_libraries("openvino")
    import openvino

    core = openvino.Core()
    graph, is_quantized = core.read_model(path), path.suffix == ".xml"
    names = [[port.any_name for port in ports] for ports in (graph.inputs, graph.outputs)]
    options: dict[str, Any] = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    # its own choice is bfloat16 wherever the processor has instructions for it, and then activations are not quantized
    if is_quantized or not is_bf16_faster(torch.device("cpu")):
        options["INFERENCE_PRECISION_HINT"] = "f32"
    if is_quantized:
        options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = _GROUP_SIZE if has_vnni() else 0
    compiled: dict[int, Any] = {}  # by the number of threads that share the cores

    def infer(streams: int, feeds: dict[str, Any]) -> Sequence[Any]:
        # a request of its own, because threads share the graph
        return list(compiled[streams].create_infer_request().infer(feeds).values())

    def run(feeds: dict[str, Any]) -> Sequence[Any]:
        streams = max(1, options["INFERENCE_NUM_THREADS"] // torch.get_num_threads())
        with _FIRST_USE:
            if streams not in compiled:
                try:
                    compiled[streams] = core.compile_model(graph, "CPU", {**options, "NUM_STREAMS": str(streams)})
                except Exception as error:  # see `Graph`
                    raise ValueError(f"{path} could not be compiled by OpenVINO: {first_line(error)}") from error
                return infer(streams, feeds)
        return infer(streams, feeds)

    return run, names


class Graph:
    """A graph, loaded into a runtime.

    Args:
        folder: of the export.
        spec: of the graph.
        runtime: of graphs that read pixels. Others, which are a small part of the work and hold operations that OpenVINO lacks, run in ONNX
            Runtime; a file of OpenVINO (.xml), which has 8-bit weights, runs in OpenVINO.

    Raises:
        ImportError: the runtime is not installed.
        ValueError: the file is damaged, or is not the graph that `spec` describes.
    """

    def __init__(self, folder: Path, spec: GraphSpec, runtime: Runtime = "onnxruntime"):
        self.spec, path = spec, folder / spec.file
        reads_pixels = any(tensor.name == _PIXELS for tensor in spec.inputs)
        is_openvino = path.suffix == ".xml" or (runtime == "openvino" and reads_pixels)
        self.computes_in_parallel = is_openvino
        try:
            if is_openvino:
                self._run, names = _load_in_openvino(path)
            else:  # beside OpenVINO, threads that spin would take cores from it
                self._run, names = _load_in_onnxruntime(path, spins=runtime == "onnxruntime")
        except ImportError:
            raise
        except Exception as error:  # the errors of runtimes have no common class
            raise ValueError(f"{path} could not be read: {first_line(error)}") from error
        if names != [[tensor.name for tensor in tensors] for tensors in (spec.inputs, spec.outputs)]:
            raise ValueError(f"{path} is not the graph that its manifest describes: it reads {', '.join(names[0])}.")

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph and return its outputs by name; raise a `ValueError` for inputs of other shapes."""
        for tensor in self.spec.inputs:
            self._check_shape(tensor, inputs[tensor.name])
        feeds = {tensor.name: inputs[tensor.name].detach().cpu().numpy() for tensor in self.spec.inputs}
        outputs = self._run(feeds)
        return {spec.name: torch.from_numpy(value) for spec, value in zip(self.spec.outputs, outputs, strict=True)}

    def _check_shape(self, tensor: TensorSpec, given: Tensor) -> None:
        fits = given.ndim == len(tensor.dims)
        for dim, size in zip(tensor.dims, given.shape, strict=False):
            low, high = self.spec.limits.get(dim, (0, None)) if isinstance(dim, str) else (dim, dim)
            fits = fits and low <= size and (high is None or size <= high)
        if not fits:
            expected = ", ".join(self._format_dim(dim) for dim in tensor.dims)
            raise ValueError(
                f"{self.spec.file} expects {tensor.name} of shape ({expected}), got {tuple(given.shape)}. Export the model "
                "with other sizes, or change the input."
            )

    def _format_dim(self, dim: int | str) -> str:
        low, high = self.spec.limits.get(str(dim), (1, None))
        if high is not None:
            return f"{dim} from {low} to {high}"
        return f"{dim} from {low}" if low > 1 else str(dim)
