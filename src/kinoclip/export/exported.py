"""A recognizer whose stages are graphs, in the place of a model of torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig

from kinoclip.conversion import naming
from kinoclip.outputs import Explanation, FrameFeatures, RecognitionOutput, TextFeatures
from kinoclip.recognizer import VideoRecognizer
from kinoclip.recognizer_config import RecognizerConfig

from .graphs import Graph
from .manifest import CANDIDATES, Manifest, read_manifest
from .stages import (
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

_OWN_LABELS = "This export is one graph for its own labels. Leave other labels out."


class ExportedRecognizer(VideoRecognizer):
    """What `export_recognizer` wrote, with the stages of the model that it came from; it computes on the CPU in float32.

    Args:
        folder: with the graphs.
        trust: read graphs of torch, which can run any code when they are read. Graphs of ONNX are data.

    Raises:
        FileNotFoundError: no such folder.
        ImportError: the runtime is not installed.
        ValueError: the folder is no export, is damaged, or holds graphs of torch and is not trusted.
    """

    def __init__(self, folder: str | Path, *, trust: bool = False):
        manifest = read_manifest(folder)
        if manifest.format == "torch" and not trust:
            raise ValueError(
                f"{folder} holds graphs of torch, which can run any code when they are read. Pass trust=True for a folder "
                "that you made yourself; graphs of ONNX need no trust."
            )
        super().__init__(_read_config(Path(folder), manifest))
        self.manifest = manifest
        self.graphs = {name: Graph(Path(folder), spec, manifest.format) for name, spec in manifest.graphs.items()}
        self._load_candidates(Path(folder) / CANDIDATES)
        self.branch_inputs = (ATTRIBUTES,) if HEAD_WITH_ATTRIBUTES in self.graphs else ()  # type: ignore[misc]
        self.text_inputs = (CHINESE,) if CHINESE in self._reads_of_text() else ()  # type: ignore[misc]
        self.eval()

    def _load_candidates(self, path: Path) -> None:
        self._register_candidates()
        if not self.config.candidate_shapes:
            return
        try:
            self.load_state_dict(load_file(path))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ValueError(f"{path} does not hold the labels that the config names. Is the folder whole?") from error

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        """What inputs are, whatever the graphs compute in."""
        return torch.float32

    def _reads_of_text(self) -> list[str]:
        return [tensor.name for tensor in self.graphs["text"].spec.inputs] if "text" in self.graphs else []

    def _graph(self, name: str, purpose: str) -> Graph:
        if name not in self.graphs:
            raise ValueError(
                f"This export has no graph {name!r}, which {purpose}; it has {', '.join(self.graphs)}. Export the model "
                f"with that part."
            )
        return self.graphs[name]

    def encode_frames(self, pixel_values_videos: Tensor) -> FrameFeatures:
        """Encode each frame: (B, T, 3, H, W) -> embeds (B, T, D).

        Where one graph does all, it encodes frames later, and they wait as their pixels.

        Raises:
            ValueError: there is no graph for it, or it takes another T, H or W.
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
        """Encode the candidates, some at a time: (P, K, L) -> embeds (P, K, D).

        Raises:
            ValueError: there is no graph for it, or it takes other inputs or shapes.
        """
        if FUSED in self.graphs:
            raise ValueError(_OWN_LABELS)
        graph = self._graph("text", "encodes labels")
        if attention_mask is not None:
            raise ValueError("An export takes no attention_mask. Make the inputs with the processor in its folder.")
        given = {"input_ids": input_ids, "word_mask": word_mask, **inputs}
        wanted = self._reads_of_text()
        missing = [name for name in wanted if given.get(name) is None]
        if missing:
            raise ValueError(
                f"This export reads {missing[0]} of every label too. Make the inputs with the processor in its folder"
                + (", and give the Chinese names of all labels." if missing[0] == CHINESE else ".")
            )
        texts: Tensors = {name: tensor for name in wanted if (tensor := given[name]) is not None}
        if "length" in graph.spec.limits:
            texts = _cut(texts)
        size = graph.spec.limits.get("labels", (1, 1))[1] or input_ids.shape[1]
        chunks = [
            graph({name: tensor[:, start : start + size] for name, tensor in texts.items()})
            for start in range(0, input_ids.shape[1], size)
        ]
        return tensors_to_text({name: torch.cat([chunk[name] for chunk in chunks], _axis(name)) for name in chunks[0]})

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
        """Name the videos; arguments are those of `VideoRecognizer.forward`, without labels and losses."""
        self._check_inputs(pixel_values_videos, input_ids, text_features, frame_features, inputs)
        text = text_features if text_features is not None else self.candidates()
        if input_ids is not None:
            further = {name: inputs.pop(name) for name in self.text_inputs if name in inputs}
            text = self.encode_text(input_ids, attention_mask, word_mask, **further)
        frames = frame_features if pixel_values_videos is None else self.encode_frames(pixel_values_videos)
        if frames is None or text is None:
            raise ValueError("An export matches videos with labels. Give pixel_values_videos or frame_features.")
        if FUSED in self.graphs:
            return self._run_fused(frames.embeds, text)
        head = self._graph(HEAD_WITH_ATTRIBUTES if ATTRIBUTES in inputs else "head", "matches videos with labels")
        output = tensors_to_output(head({**frames_to_tensors(frames), **text_to_tensors(text), **inputs}))
        output.frames, output.text = frames, text
        return output

    def _run_fused(self, pixels: Tensor, text: TextFeatures) -> RecognitionOutput:
        own = self.candidates()
        if own is None or text.embeds is not own.embeds:
            raise ValueError(_OWN_LABELS)
        output = tensors_to_output(self.graphs[FUSED]({"pixel_values_videos": pixels}))
        output.text = text
        return output

    def explain(
        self, frames: FrameFeatures, text: TextFeatures, pixel_values_videos: Tensor | None = None
    ) -> Explanation:
        """Refuse: graphs give answers without reasons.

        Raises:
            ValueError: always.
        """
        raise ValueError("An export gives no reasons. Ask the model that it was made of.")


def load_exported(folder: str | Path, *, trust: bool = False) -> tuple[ExportedRecognizer, Any]:
    """Load an export and its processor: what a `Classifier` takes.

    ```python
    >>> classifier = Classifier(*load_exported("my_export"))  # doctest: +SKIP
    ```

    Args:
        folder: as `kinoclip export` writes it.
        trust: see `ExportedRecognizer`.

    Raises:
        see `ExportedRecognizer`; ValueError: its processor is missing or damaged.
    """
    from kinoclip.inference.loading import check_finite, load_processor  # which loads exports too

    recognizer = ExportedRecognizer(folder, trust=trust)
    check_finite(recognizer, str(folder))
    return recognizer, load_processor(str(folder))


def _read_config(folder: Path, manifest: Manifest) -> RecognizerConfig:
    with naming(f"{folder}/config.json"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if not isinstance(config, RecognizerConfig) or config.model_type != manifest.method:
        raise ValueError(
            f"{folder}/config.json is of {config.model_type!r}, but the graphs are of {manifest.method!r}."
        )
    return config


def _cut(texts: Tensors) -> Tensors:
    """Cut the padding, id 0, behind the longest text: the graph reads no further than a text's end."""
    used = (texts["input_ids"] != 0).flatten(0, 1).any(0).nonzero()
    length = int(used[-1]) + 1
    return {name: tensor if name == CHINESE else tensor[..., :length] for name, tensor in texts.items()}


def _axis(name: str) -> int:
    """Give the axis of the candidates."""
    return 0 if name in ("text_words", "text_word_mask") else 1
