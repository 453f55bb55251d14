"""Name the actions in videos, with one's own labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from kinoclip.embedded import EMBEDDED
from kinoclip.outputs import TextFeatures
from kinoclip.processing import check_labels
from kinoclip.recognizer import VideoRecognizer
from kinoclip.text.chinese import chinese_texts
from kinoclip.text.descriptions import describe_labels
from kinoclip.video import VideoSource
from kinoclip.video_processing import SampledVideo, is_one_video

from .attributes import AttributeFinder
from .classification import Classification, Prediction
from .encoding import EncodedVideo, encode_videos, join_features
from .evidence import read_evidence
from .feature_cache import FeatureCache
from .loading import load_recognizer

__all__ = ["Classification", "Classifier", "Prediction", "classify"]

ChineseNames = str | Path | Mapping[str, str | Sequence[str]]


class Classifier:
    """A loaded model with the labels it was last asked for; their text is encoded once.

    Args:
        model: a recognizer.
        processor: its processor, or its video processor alone for a checkpoint with its own labels.
        name: what the model is called in records.
        attributes: finds the attributes of each video for the model's attributes branch.
        descriptions: label to a sentence that is read together with it (SLLM sec. 3.3); every label needs one.
        chinese: the Chinese names of labels for the model's Chinese branch: a packaged set such as "kinetics400", a file, or
            label to name; every label needs one.

    Raises:
        ValueError: attributes are to be found or Chinese names given, but the model has no branch for them, or the processor
            no tokenizer for Chinese.
    """

    def __init__(
        self,
        model: VideoRecognizer,
        processor: Any,
        name: str = "",
        attributes: AttributeFinder | None = None,
        descriptions: Mapping[str, str] | None = None,
        chinese: ChineseNames | None = None,
    ):
        if attributes is not None and "attribute_input_ids" not in model.used_branch_inputs():
            raise ValueError(f"The model {name} has no attributes branch. Leave the lexicon out.")
        self.model = model
        self.processor = processor
        self.attributes = attributes
        self.descriptions = descriptions
        self.video_processor = getattr(processor, "video_processor", processor)
        self.name = name
        self.chinese: dict[str, list[str]] | None = None
        self.features: FeatureCache | None = None
        self._labels: tuple[str, ...] = ()
        self._text: TextFeatures | None = None
        if chinese is not None:
            self.set_chinese(chinese)

    @classmethod
    def load(
        cls,
        model: str | Path = EMBEDDED,
        *,
        lexicon: str | Path | Sequence[str] | None = None,
        lexicon_clip: str | Path | None = None,
        descriptions: Mapping[str, str] | None = None,
        chinese: ChineseNames | None = None,
        **options: Any,
    ) -> Self:
        """Load a model by name.

        Args:
            model: see `load_recognizer`.
            lexicon: phrases that videos are described by, for a model with an attributes branch: a file, a packaged label
                set such as "kinetics400", or the phrases. A plain CLIP then gets the branch that needs no training.
            lexicon_clip: the plain CLIP that finds them, in frames of its own size and number; the model itself where that is
                one.
            descriptions: label to a sentence that is read together with it.
            chinese: the Chinese names of labels, for a model with a Chinese branch.
            options: of `load_recognizer`.
        """
        if lexicon is None:
            return cls(*load_recognizer(model, **options), str(model), None, descriptions, chinese)
        recognizer, processor = load_recognizer(model, attributes=True, **options)
        reads = getattr(processor, "num_attributes", 5)
        finder = AttributeFinder.load(lexicon_clip or model, lexicon, reads, **options)
        return cls(recognizer, processor, str(model), finder, descriptions, chinese)

    def set_chinese(self, names: ChineseNames) -> None:
        """Give labels these Chinese names from now on; see `Classifier`.

        Raises:
            FileNotFoundError, ValueError: the names cannot be read, or this model or its processor cannot use them.
        """
        if "chinese_input_ids" not in self.model.used_text_inputs():
            raise ValueError(
                f"The model {self.name} has no Chinese branch, so it cannot read Chinese names. Leave them out, or give it "
                "one with `model.load_chinese`."
            )
        tokenizer = getattr(self.processor, "chinese_tokenizer", None)
        if tokenizer is None:
            raise ValueError(
                f"The model {self.name} has a Chinese branch, but no tokenizer for it. Call `set_chinese` of its processor "
                "with the tokenizer of its Chinese-CLIP, and save the processor beside the model."
            )
        if self.descriptions is not None:
            raise ValueError(
                "Descriptions are English sentences, so they do not go with Chinese names. Leave one of them out."
            )
        stored = self.processor.chinese or {}
        options = {name: stored[name] for name in ("templates", "context_length") if name in stored}
        self.processor.set_chinese(tokenizer, names, **options)
        self.chinese = self.processor.chinese["labels"]
        self._labels, self._text = (), None

    def keep_features(self, folder: str | Path) -> FeatureCache:
        """Keep the features of texts in a folder from now on, and give what keeps those of videos there.

        Raises:
            see `FeatureCache`.
        """
        self.features = FeatureCache(folder, self.model, self.video_processor)
        return self.features

    @torch.inference_mode()
    def set_labels(self, labels: Sequence[str] | None) -> tuple[str, ...]:
        """Encode the labels, if they are not the last ones; None means those that the checkpoint carries.

        Raises:
            ValueError: labels are empty, too long or double, or the checkpoint cannot read or lacks them.
        """
        if labels is None:
            if self.chinese is not None:
                raise ValueError("Chinese names belong to labels that are given. Give labels too.")
            text = self.model.candidates()
            if text is None:
                raise ValueError(f"The model {self.name} carries no labels of its own. Give labels.")
            self._text = text
            names: dict[int, str] = self.model.config.id2label  # type: ignore[assignment]
            self._labels = tuple(names[i] for i in range(text.embeds.shape[1]))
            return self._labels
        labels = (labels,) if isinstance(labels, str) else tuple(labels)
        if not labels or labels != self._labels:
            check_labels(labels)
            if self.processor is self.video_processor:
                raise ValueError(
                    f"The model {self.name} has no tokenizer, so it knows only its own labels. Leave labels out."
                )
            if self.chinese is not None:
                _check_chinese(labels, self.chinese)
            texts = labels if self.descriptions is None else describe_labels(labels, self.descriptions)
            inputs = self.processor(text=texts)
            encode = self.model.encode_text if self.features is None else self.features.encode_text
            self._text = encode(**{k: v.to(self.model.device) for k, v in inputs.items()})
            self._labels = labels
        return labels

    @property
    def text(self) -> TextFeatures:
        """What the labels of `set_labels` were encoded to.

        Raises:
            ValueError: no labels were set.
        """
        if self._text is None:
            raise ValueError("No labels were set. Call `set_labels` first.")
        return self._text

    def read(self, video: VideoSource) -> SampledVideo:
        """Decode the frames that the model and the finder of attributes look at; may run in a thread of its own."""
        if self.attributes is not None:
            return self.attributes.read(video, self.video_processor)
        sample: SampledVideo = self.video_processor.sample(video)
        return sample

    def answer(
        self, sample: SampledVideo, *, top_k: int = 5, explain: bool = False, video: str | None = None
    ) -> Classification:
        """Classify a decoded video among the labels of `set_labels`; views are averaged.

        Raises:
            ValueError: no labels were set.
        """
        return self.answers([sample], top_k=top_k, explain=explain, names=[video])[0]

    @torch.inference_mode()
    def answers(
        self,
        videos: Sequence[SampledVideo | EncodedVideo],
        *,
        top_k: int = 5,
        explain: bool = False,
        names: Sequence[str | None] | None = None,
    ) -> list[Classification]:
        """Classify several videos at once, as `answer` does each; those that are encoded already skip the vision tower.

        Raises:
            ValueError: no labels were set; or reasons or attributes are asked for, and only features are there.
        """
        text = self.text
        samples = [video for video in videos if isinstance(video, SampledVideo)]
        if len(samples) < len(videos) and (explain or self.attributes is not None):
            raise ValueError("Reasons and attributes are found in the frames, and these videos are features alone.")
        encoded = encode_videos(self.model, videos)
        frames = join_features(self.model, encoded)
        found = None if self.attributes is None else [self.attributes.find_in(sample) for sample in samples]
        views = len(frames.embeds) // len(videos)
        inputs = {}
        if found is not None:
            rows = [phrases for phrases in found for _ in range(views)]
            inputs = self.processor(attributes=rows).to(self.model.device)
        logits = self.model(frame_features=frames, text_features=text, **inputs).logits
        best = logits.float().softmax(-1).unflatten(0, (-1, views)).mean(1).topk(min(top_k, len(self._labels)))
        answers = []
        for number, (video, values, indices) in enumerate(
            zip(encoded, best.values.tolist(), best.indices.tolist(), strict=True)
        ):
            evidence: dict[str, Any] = {}
            if explain:
                evidence = self._explain(samples[number], video, indices)
            answers.append(
                Classification(
                    tuple(Prediction(self._labels[i], p) for p, i in zip(values, indices, strict=True)),
                    video=None if names is None else names[number],
                    frame_indices=video.indices,
                    timestamps=video.timestamps,
                    duration_seconds=video.duration_seconds,
                    attributes=None if found is None else found[number],
                    **evidence,
                )
            )
        return answers

    def _explain(self, sample: SampledVideo, video: EncodedVideo, chosen: Sequence[int]) -> dict[str, Any]:
        pixels = sample.pixel_values.to(self.model.device, self.model.dtype)
        explanation = self.model.explain(video.features, self.text, pixels)
        evidence = read_evidence(explanation, self._labels, chosen, self.video_processor.num_clips)
        return {"frames": sample.frames, **evidence}

    def classify(
        self,
        videos: VideoSource | Sequence[VideoSource],
        labels: Sequence[str] | None = None,
        *,
        top_k: int = 5,
        explain: bool = False,
    ) -> Any:
        """Classify one video or a list of them; see `kinoclip.classify`."""
        if top_k < 1:
            raise ValueError(f"top_k is {top_k}. Ask for at least one label.")
        self.set_labels(labels)
        one = is_one_video(videos)
        each: Any = [videos] if one else videos
        answers = [
            self.answer(self.read(video), top_k=top_k, explain=explain, video=source_name(video)) for video in each
        ]
        return answers[0] if one else answers


def classify(
    videos: VideoSource | Sequence[VideoSource],
    labels: Sequence[str] | None = None,
    *,
    model: str | Path | Classifier = EMBEDDED,
    top_k: int = 5,
    explain: bool = False,
    chinese: ChineseNames | None = None,
) -> Any:
    """Name the action in a video, or in each of a list of videos, among your own labels.

    Args:
        videos: a path, an http(s) URL, bytes, a file, an array (T, H, W, 3), a list of images or a folder of frames; or a
            list of such.
        labels: the names to choose from; left out, those that the checkpoint carries.
        model: a folder or hub id, a plain CLIP for zero-shot use, a `Classifier` (nothing is loaded again), or "mini",
            the embedded model, which knows colored shapes only: choose a real one for your own videos.
        top_k: how many labels to give.
        explain: give the frames and the reasons too: what each frame counted, where the model looked, which entities it saw,
            as far as its method has them.
        chinese: the Chinese names of the labels, for a model with a Chinese branch: a packaged set such as "kinetics400", a
            file, or label to name.

    Returns:
        A `Classification`: a sequence of (label, probability), best first; or a list of them for a list.

    Raises:
        FileNotFoundError: no such video or model.
        VideoDecodeError: a video that cannot be read, or is none.
        ValueError: labels are empty, too long or double, or the model is not usable.
    """
    classifier = model if isinstance(model, Classifier) else Classifier.load(model)
    if chinese is not None:
        classifier.set_chinese(chinese)
    return classifier.classify(videos, labels, top_k=top_k, explain=explain)


def _check_chinese(labels: Sequence[str], names: Mapping[str, Sequence[str]]) -> None:
    try:
        chinese_texts(labels, names)
    except KeyError as missing:
        raise ValueError(
            f"The label {missing} has no Chinese name. Add it to the Chinese names, or write the label in Chinese."
        ) from None


def source_name(video: VideoSource) -> str | None:
    """Give a video's path, URL or file name, or None for data without a name."""
    name = getattr(video, "name", video)
    return str(name) if isinstance(name, str | Path) else None
