"""From a stage to a program of torch, and what is known of it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kinoclip.recognizer import VideoRecognizer

from .manifest import GraphSpec, TensorSpec
from .stages import Stage, Tensors


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries tell their own developers from users."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class StageModule(nn.Module):
    """A stage by position, for a tracer; what goes in and comes out is float32, whatever the weights are."""

    def __init__(self, model: VideoRecognizer, stage: Stage):
        super().__init__()
        self.model, self.stage = model, stage

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Give the outputs of the stage for its inputs."""
        return tuple(self.name_outputs(*tensors).values())

    def name_outputs(self, *tensors: Tensor) -> Tensors:
        """Give the same by name."""
        cast = [t.to(self.model.dtype) if t.is_floating_point() else t for t in tensors]
        outputs = self.stage.run(dict(zip(self.stage.inputs, cast, strict=True)))
        return {name: t.float() if t.is_floating_point() else t for name, t in outputs.items()}


@quiet()
@torch.no_grad()
def trace(model: VideoRecognizer, stage: Stage) -> tuple[ExportedProgram, GraphSpec]:
    """Trace a stage, with each size left open that the method leaves open; the spec has no file yet.

    Raises:
        ValueError: it cannot be written as a graph.
    """
    module = StageModule(model, stage)
    output_names = list(module.name_outputs(*stage.inputs.values()))
    axes = {name: stage.axes(name) for name in stage.inputs}
    shapes = tuple(dict.fromkeys(named, Dim.AUTO) for named in axes.values())
    try:
        program = torch.export.export(module, tuple(stage.inputs.values()), dynamic_shapes=(shapes,))
    except Exception as error:  # tracers raise of everything
        raise ValueError(
            f"The part {stage.name} of this {type(model).__name__} cannot be written as a graph: "
            f"{type(error).__name__}, {str(error).strip().partition(chr(10))[0]}"
        ) from error
    inputs, outputs = _placeholders(program), _outputs(program)
    names, limits = _read_sizes(program, inputs, axes)
    if "frames" in limits:
        limits["frames"] = (_least_frames(program, module), limits["frames"][1])
    if "labels" in limits and stage.most_labels is not None:
        limits["labels"] = (1, stage.most_labels)
    return program, GraphSpec(
        file="",
        inputs=[_describe(*pair, names) for pair in zip(stage.inputs, inputs, strict=True)],
        outputs=[_describe(*pair, names) for pair in zip(output_names, outputs, strict=True)],
        limits=limits,
    )


def _placeholders(program: ExportedProgram) -> list[Tensor]:
    wanted = set(program.graph_signature.user_inputs)
    return [n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name in wanted]


def _outputs(program: ExportedProgram) -> list[Tensor]:
    values = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return [values[str(name)] for name in program.graph_signature.user_outputs]


def _read_sizes(
    program: ExportedProgram, inputs: list[Tensor], axes: dict[str, dict[int, str]]
) -> tuple[dict[str, str], dict[str, tuple[int, int | None]]]:
    """Give the tracer's symbols with our names for them, and the limits of each name."""
    names: dict[str, str] = {}
    limits: dict[str, tuple[int, int | None]] = {}
    for tensor, named in zip(inputs, axes.values(), strict=True):
        for axis, name in named.items():
            size: Any = tensor.shape[axis]
            if _varies(size):
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
        dims.append(term if _varies(size) else int(size))
    return TensorSpec(name, str(tensor.dtype).removeprefix("torch."), dims)


def _varies(size: Any) -> bool:
    return isinstance(size, torch.SymInt) and not size.node.expr.is_number


def _least_frames(program: ExportedProgram, module: StageModule) -> int:
    """Find out how few frames the graph takes: tracing leaves out what a method does differently for very few."""
    stage = module.stage
    has_frames = [stage.axes(name).get(1) == "frames" for name in stage.inputs]
    for count in (1, 2):
        pairs = zip(has_frames, stage.inputs.values(), strict=True)
        few = [tensor[:, :count] if has else tensor for has, tensor in pairs]
        try:
            found, wanted = program.module(check_guards=False)(*few), module(*few)
        except Exception:  # of either
            continue
        if all(torch.allclose(a.float(), b.float(), atol=1e-3) for a, b in zip(found, wanted, strict=True)):
            return count
    return 3
