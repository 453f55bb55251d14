"""A recognizer whose stages are ONNX graphs."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig

from kinoclip.export.graphs import Graph, Runtime
from kinoclip.export.manifest import CANDIDATES, Manifest, read_manifest
from kinoclip.export.stages import (
    ATTRIBUTES,
    CHINESE,
    FUSED,
    HEAD_WITH_ATTRIBUTES,
    Tensors,
    frames_to_tensors,
    tensors_to_frames,
    tensors_to_output,
    tensors_to_text,
    text_to_tensors,
)
from kinoclip.methods.auto import check_finite, load_processor
from kinoclip.modeling.checkpoints import naming
from kinoclip.modeling.configuration import RecognizerConfig
from kinoclip.modeling.outputs import Explanation, FrameFeatures, RecognitionOutput, TextFeatures, candidate_axis
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.storage import hash_file

_OWN_LABELS = "This export is one graph for its own labels. Leave other labels out."


class ExportedRecognizer(VideoRecognizer):
    """A folder of `export_recognizer`, with the stages of the original model. It runs on the CPU.

    Args:
        folder: the export.
        runtime: of its ONNX graphs.

    Raises:
        FileNotFoundError: the folder does not exist.
        ImportError: the runtime is not installed.
        ValueError: the folder is not an export, or is damaged.
    """

    uses_torch_threads = False

    def __init__(self, folder: str | Path, runtime: Runtime = "onnxruntime"):
        manifest = read_manifest(folder)
        super().__init__(_read_config(Path(folder), manifest))
        self.manifest, self._folder, self._runtime = manifest, Path(folder), runtime
        self.graphs = {name: Graph(Path(folder), spec, runtime) for name, spec in manifest.graphs.items()}
        self._register_candidates()
        if self.config.candidate_shapes:
            path = Path(folder) / CANDIDATES
            try:
                self.load_state_dict(load_file(path))
            except (OSError, RuntimeError, SafetensorError) as error:
                raise ValueError(
                    f"{path} does not hold the labels of config.json. Copy the whole folder, or export the model again."
                ) from error
        self.further_inputs = {ATTRIBUTES: "branch"} if HEAD_WITH_ATTRIBUTES in self.graphs else {}
        self.further_inputs |= {CHINESE: "text"} if CHINESE in self._text_graph_inputs() else {}
        self.eval()

    @property
    def device(self) -> torch.device:
        """Device of the inputs."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the inputs, whatever the graphs compute in."""
        return torch.float32

    @property
    def encodes_frames_alone(self) -> bool:
        """Whether there is a graph that encodes each frame alone, and any number of them."""
        graph = self.manifest.graphs.get("frames")
        return self.manifest.frames_alone and graph is not None and graph.limits.get("frames") == (1, None)

    @property
    def computes_in_parallel(self) -> bool:
        """Whether threads that encode frames at the same time share the cores, as with OpenVINO."""
        return "frames" in self.graphs and self.graphs["frames"].computes_in_parallel

    @cached_property
    def content_hash(self) -> str:
        """Hash of the graphs and their runtime."""
        return hash_file(self._folder) + ("" if self._runtime == "onnxruntime" else self._runtime)

    def _text_graph_inputs(self) -> list[str]:
        return [tensor.name for tensor in self.graphs["text"].spec.inputs] if "text" in self.graphs else []

    def _graph(self, name: str, purpose: str) -> Graph:
        if name not in self.graphs:
            raise ValueError(
                f"This export has no graph {name!r}, which {purpose}; it has {', '.join(self.graphs)}. Export the model "
                "with that part."
            )
        return self.graphs[name]

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode frames, of sizes that the graph accepts: (B, T, 3, H, W) -> embeds (B, T, D).

        A fused graph encodes frames in `forward`; until then the features hold the pixels.
        """
        if FUSED in self.graphs:
            return FrameFeatures(embeds=pixel_values_videos.float())
        graph = self._graph("frames", "encodes frames")
        return tensors_to_frames(graph({"pixel_values_videos": pixel_values_videos.float()}))

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        word_mask: Tensor | None = None,
        **inputs: Tensor,
    ) -> TextFeatures:
        """Encode candidates in chunks, with inputs and sizes that the graph accepts: (P, K, L) -> embeds (P, K, D)."""
        if FUSED in self.graphs:
            raise ValueError(_OWN_LABELS)
        graph = self._graph("text", "encodes labels")
        if attention_mask is not None:
            raise ValueError(
                "An export does not use attention_mask. Make the inputs with the processor in its folder."
            )
        given = {"input_ids": input_ids, "word_mask": word_mask, **inputs}
        names = self._text_graph_inputs()
        missing = [name for name in names if given.get(name) is None]
        if missing:
            raise ValueError(
                f"This export needs {missing[0]} for each label. Make the inputs with the processor in its folder"
                + (", and pass the Chinese names of all labels." if missing[0] == CHINESE else ".")
            )
        texts: Tensors = {name: tensor for name in names if (tensor := given[name]) is not None}
        if "length" in graph.spec.limits:
            texts = _trim_padding(texts)
        size = graph.spec.limits.get("labels", (1, 1))[1] or input_ids.shape[1]
        chunks = [
            graph({name: tensor[:, start : start + size] for name, tensor in texts.items()})
            for start in range(0, input_ids.shape[1], size)
        ]
        axes = {name: candidate_axis(name.removeprefix("text_")) for name in chunks[0]}
        return tensors_to_text({name: torch.cat([chunk[name] for chunk in chunks], axes[name]) for name in axes})

    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        word_mask: Tensor | None = None,
        text_features: TextFeatures | None = None,
        frame_features: FrameFeatures | None = None,
        **inputs: Tensor,
    ) -> RecognitionOutput:
        """Match videos with candidates; arguments as in `VideoRecognizer.forward`, without labels and losses."""
        self._check_inputs(pixel_values_videos, input_ids, text_features, frame_features, inputs)
        text = text_features if text_features is not None else self.candidates()
        if input_ids is not None:
            text_inputs = {name: inputs.pop(name) for name in (CHINESE,) if name in inputs}
            text = self.encode_text(input_ids, attention_mask, word_mask, **text_inputs)
        frames = frame_features if pixel_values_videos is None else self.encode_frames(pixel_values_videos)
        if frames is None or text is None:
            raise ValueError(
                "An export needs videos and labels. Pass pixel_values_videos or frame_features, and input_ids or text_features."
            )
        if FUSED in self.graphs:
            own = self.candidates()
            if own is None or text.embeds is not own.embeds:
                raise ValueError(_OWN_LABELS)
            output = tensors_to_output(self.graphs[FUSED]({"pixel_values_videos": frames.embeds}))
            output.text = text
            return output
        head = self._graph(HEAD_WITH_ATTRIBUTES if ATTRIBUTES in inputs else "head", "matches videos with labels")
        output = tensors_to_output(head({**frames_to_tensors(frames), **text_to_tensors(text), **inputs}))
        output.frames, output.text = frames, text
        return output

    def explain(
        self, frames: FrameFeatures, text: TextFeatures, pixel_values_videos: Tensor | None = None
    ) -> Explanation:
        """Raise a `ValueError`: graphs return logits only."""
        raise ValueError("An export cannot explain its predictions. Use the original model for explanations.")


def load_exported(folder: str | Path, runtime: Runtime = "onnxruntime") -> tuple[ExportedRecognizer, Any]:
    """Load an export and its processor, the arguments of a `Classifier`.

    ```python
    >>> classifier = Classifier(*load_exported("my_export"))  # doctest: +SKIP
    ```

    Raises:
        FileNotFoundError, ImportError, ValueError: see `ExportedRecognizer`; or the processor is missing or damaged.
    """
    recognizer = ExportedRecognizer(folder, runtime)
    check_finite(recognizer, str(folder))
    return recognizer, load_processor(str(folder))


def _read_config(folder: Path, manifest: Manifest) -> RecognizerConfig:
    with naming(f"{folder}/config.json"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if not isinstance(config, RecognizerConfig) or config.model_type != manifest.method:
        raise ValueError(
            f"{folder}/config.json has the model type {config.model_type!r}, but the graphs have {manifest.method!r}."
        )
    return config


def _trim_padding(texts: Tensors) -> Tensors:
    """Remove the padding (id 0) after the longest text: the graph reads no further than the end of a text."""
    used = (texts["input_ids"] != 0).flatten(0, 1).any(0).nonzero()
    length = int(used[-1]) + 1
    return {name: tensor if name == CHINESE else tensor[..., :length] for name, tensor in texts.items()}
