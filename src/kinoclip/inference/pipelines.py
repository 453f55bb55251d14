"""`pipeline("zero-shot-video-classification")`, registered with Transformers when this module is imported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

if TYPE_CHECKING:
    from kinoclip.video import VideoSource


class ZeroShotVideoClassificationPipeline(Pipeline):
    """Classify a video among candidate labels, with a recognizer or a plain CLIP.

    ```python
    >>> from transformers import pipeline  # doctest: +SKIP
    >>> recognize = pipeline("zero-shot-video-classification", model="org/bike-vitl14")
    >>> recognize("clip.mp4", candidate_labels=["diving", "archery"])
    [{'score': 0.98, 'label': 'diving'}, {'score': 0.02, 'label': 'archery'}]
    ```
    """

    _load_processor = True
    _load_image_processor = _load_video_processor = _load_feature_extractor = _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any):
        from kinoclip.inference.classifier import Classifier  # not before the pipeline is used

        super().__init__(*args, **kwargs)
        if self.model.config.model_type == "clip":
            from kinoclip.methods.auto import wrap_plain_clip

            tokenizer = getattr(self.processor, "tokenizer", self.processor)
            self.model, self.processor = wrap_plain_clip(self.model, tokenizer)
        self._classifier = Classifier(self.model, self.processor, name=str(self.model.name_or_path))

    def __call__(
        self, videos: VideoSource | list[VideoSource], candidate_labels: Sequence[str] | None = None, **kwargs: Any
    ) -> Any:
        """Classify one video or a list of them.

        Args:
            videos: see `VideoReader`.
            candidate_labels: the names to choose from, see `kinoclip.classify`.
            kwargs: `top_k`, the number of labels; by default all.
        """
        return super().__call__(videos, candidate_labels=candidate_labels, **kwargs)

    def _sanitize_parameters(
        self, candidate_labels: Sequence[str] | None = None, top_k: int | None = None, **unknown: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if unknown:
            raise TypeError(f"Unknown options {', '.join(unknown)}. Known: candidate_labels, top_k.")
        options = {"candidate_labels": candidate_labels, "top_k": top_k}
        return {}, {name: value for name, value in options.items() if value is not None}, {}

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
        """Return labels with their scores, best first."""
        return [{"score": probability, "label": label} for label, probability in outputs["answer"]]


PIPELINE_REGISTRY.register_pipeline(
    "zero-shot-video-classification",
    pipeline_class=ZeroShotVideoClassificationPipeline,
    pt_model=AutoModel,
    type="multimodal",
)
