"""`pipeline("zero-shot-video-classification")`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import Pipeline

from kinoclip.video import VideoSource

from .classify import Classifier


class ZeroShotVideoClassificationPipeline(Pipeline):
    """Name the action in a video among candidate labels.

    ```python
    >>> from transformers import pipeline  # doctest: +SKIP
    >>> recognize = pipeline("zero-shot-video-classification", model="org/bike-vitl14")
    >>> recognize("clip.mp4", candidate_labels=["diving", "archery"])
    [{'score': 0.98, 'label': 'diving'}, {'score': 0.02, 'label': 'archery'}]
    ```
    """

    _load_processor = True
    _load_image_processor = False
    _load_video_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self._classifier = Classifier(self.model, self.processor, name=str(self.model.name_or_path))

    def __call__(
        self, videos: VideoSource | list[VideoSource], candidate_labels: Sequence[str] | None = None, **kwargs: Any
    ) -> Any:
        """Classify one video or a list of them.

        Args:
            videos: paths, http(s) URLs, bytes, arrays or folders of frames.
            candidate_labels: the names to choose from, or one text with commas between them.
            kwargs: `top_k`, how many labels to give; all when left out.
        """
        return super().__call__(videos, candidate_labels=candidate_labels, **kwargs)

    def _sanitize_parameters(
        self, candidate_labels: Sequence[str] | None = None, top_k: int | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise TypeError(f"Unknown options {', '.join(unknown)}. Known: candidate_labels, top_k.")
        forward: dict[str, Any] = {}
        if candidate_labels is not None:
            if isinstance(candidate_labels, str):
                candidate_labels = [label.strip() for label in candidate_labels.split(",")]
            forward["candidate_labels"] = list(candidate_labels)
        if top_k is not None:
            forward["top_k"] = top_k
        return {}, forward, {}

    def preprocess(self, video: VideoSource) -> dict[str, Any]:
        """Decode the frames of one video."""
        return {"sample": self._classifier.read(video)}

    def _forward(
        self, inputs: dict[str, Any], candidate_labels: Sequence[str] | None = None, top_k: int | None = None
    ) -> dict[str, Any]:
        labels = self._classifier.set_labels(candidate_labels)
        samples, top_k = inputs["sample"], top_k or len(labels)
        if isinstance(samples, list):  # with `batch_size`
            return {"answer": [self._classifier.answer(sample, top_k=top_k) for sample in samples]}
        return {"answer": self._classifier.answer(samples, top_k=top_k)}

    def postprocess(self, outputs: dict[str, Any]) -> list[dict[str, Any]]:
        """Give labels with their scores, best first."""
        return [{"score": probability, "label": label} for label, probability in outputs["answer"]]
