"""Graphs as files: written for ONNX Runtime or for torch, read back, and run."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from .manifest import DType, Format, GraphSpec
from .tracing import quiet

SUFFIX: dict[Format, str] = {"onnx": ".onnx", "torch": ".pt2"}
_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def check_libraries(names: tuple[str, ...] = _LIBRARIES) -> None:
    """Make sure that the libraries of ONNX are there.

    Raises:
        ImportError: one is not.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise ImportError(f"Graphs of ONNX need {missing[0]}. `pip install 'kinoclip[export]'`.")


@quiet()
def write_graph(
    program: ExportedProgram, spec: GraphSpec, folder: Path, name: str, format: Format, dtype: DType
) -> GraphSpec:
    """Write a program into a folder, and give its spec with the name of the file."""
    spec = replace(spec, file=name + SUFFIX[format])
    path = folder / spec.file
    if format == "torch":
        _drop_unused(program)
        torch.export.save(program, path)
        return spec
    _write_onnx(program, spec, path)
    if dtype == "int8" and any(tensor.name.startswith("pixel_values") for tensor in spec.inputs):
        _quantize(path)
    return spec


def _drop_unused(program: ExportedProgram) -> None:
    """Leave out the weights that a graph does not use; a program holds those of the whole model."""
    weights = (InputKind.PARAMETER, InputKind.BUFFER)
    specs = program.graph_signature.input_specs
    nodes = [node for node in program.graph.nodes if node.op == "placeholder"]
    for node, spec in zip(nodes, tuple(specs), strict=True):
        if spec.kind in weights and not node.users:
            program.graph.erase_node(node)
            specs.remove(spec)
            program.state_dict.pop(str(spec.target), None)
    program.graph_module.recompile()


def _write_onnx(program: ExportedProgram, spec: GraphSpec, path: Path) -> None:
    import onnx_ir

    written = torch.onnx.export(
        program,
        input_names=[tensor.name for tensor in spec.inputs],
        output_names=[tensor.name for tensor in spec.outputs],
        custom_translation_table={torch.ops.aten.sort.stable: _sort},
        verbose=False,
    )
    if written is None:  # as for another way of exporting
        raise RuntimeError(f"torch wrote no graph for {path.name}.")
    graph = written.model.graph
    # the tracer's names of sizes inside; the runtime finds the sizes itself
    for node in graph:
        for value in node.outputs:
            value.shape = None
    for tensors, values in ((spec.inputs, graph.inputs), (spec.outputs, graph.outputs)):
        for tensor, value in zip(tensors, values, strict=True):
            value.shape = onnx_ir.Shape(tensor.dims)
    written.save(path)


def _sort(self: Any, *, stable: bool | None = None, dim: int = -1, descending: bool = False) -> Any:
    """Write `torch.sort` as ONNX's TopK, which keeps the order of equal values too."""
    from onnxscript import opset18

    opset: Any = opset18
    size = opset.Gather(opset.Shape(self), opset.Constant(value_ints=[dim]))
    return opset.TopK(self, size, axis=dim, largest=int(descending), sorted=1)


def _quantize(path: Path) -> None:
    """Write the weights of all matrix products in 8 bits; what they are multiplied with is quantized as it comes.

    The weights have no sign: products with signed ones overflow on processors without VNNI, which costs answers.

    Source: ONNX Runtime's dynamic quantization.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(path)
    path.unlink()
    # the quantizer turns some weights over, and trips over their old shapes
    del model.graph.value_info[:]
    quantize_dynamic(model, path, weight_type=QuantType.QUInt8, op_types_to_quantize=["MatMul", "Gemm"])


class Graph:
    """A graph that can be run.

    Args:
        folder: where its file is.
        spec: what it takes and gives.
        format: of the file.

    Raises:
        ImportError: the runtime is not installed.
        ValueError: the file is damaged, or is not the graph that `spec` describes.
    """

    def __init__(self, folder: Path, spec: GraphSpec, format: Format):
        self.spec = spec
        path = folder / spec.file
        try:
            self._run = _open_onnx(path, spec) if format == "onnx" else _open_torch(path)
        except (ImportError, ValueError):
            raise
        except Exception as error:  # the runtimes have errors of their own, without a common kind
            raise ValueError(f"{path} could not be read: {str(error).strip().partition(chr(10))[0]}") from error

    def __call__(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Give the outputs by name.

        Raises:
            ValueError: an input has a shape that the graph does not take.
        """
        ordered = [inputs[tensor.name] for tensor in self.spec.inputs]
        for tensor, given in zip(self.spec.inputs, ordered, strict=True):
            self._check_shape(tensor.name, tensor.dims, given)
        outputs = self._run(ordered)
        return {tensor.name: output for tensor, output in zip(self.spec.outputs, outputs, strict=True)}

    def _check_shape(self, name: str, dims: list[int | str], given: Tensor) -> None:
        fits = given.ndim == len(dims)
        for dim, size in zip(dims, given.shape, strict=False):
            least, most = self.spec.limits.get(dim, (0, None)) if isinstance(dim, str) else (dim, dim)
            fits = fits and least <= size and (most is None or size <= most)
        if not fits:
            shown = ", ".join(self._show_dim(dim) for dim in dims)
            raise ValueError(
                f"{self.spec.file} takes {name} of shape ({shown}), not {tuple(given.shape)}. Export the model with other "
                "sizes, or give these."
            )

    def _show_dim(self, dim: int | str) -> str:
        least, most = self.spec.limits.get(str(dim), (1, None))
        if most is not None:
            return f"{dim} from {least} to {most}"
        return f"{dim} from {least}" if least > 1 else str(dim)


def _open_onnx(path: Path, spec: GraphSpec) -> Any:
    check_libraries(("onnxruntime",))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    found = [[tensor.name for tensor in tensors] for tensors in (session.get_inputs(), session.get_outputs())]
    if found != [[tensor.name for tensor in tensors] for tensors in (spec.inputs, spec.outputs)]:
        raise ValueError(f"{path} is another graph than its manifest says: it takes {', '.join(found[0])}.")

    def run(inputs: list[Tensor]) -> list[Tensor]:
        feeds = {name: tensor.detach().cpu().numpy() for name, tensor in zip(found[0], inputs, strict=True)}
        return [torch.from_numpy(output) for output in session.run(None, feeds)]

    return run


@quiet()
def _open_torch(path: Path) -> Any:
    # the tracer's guards are stricter than the graph; `Graph` checks the sizes that were tried
    program = torch.export.load(path).module(check_guards=False)

    def run(inputs: list[Tensor]) -> tuple[Tensor, ...]:
        with torch.no_grad():
            outputs: tuple[Tensor, ...] = program(*inputs)
        return outputs

    return run
