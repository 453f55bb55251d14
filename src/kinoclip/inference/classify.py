"""Name the actions in videos, with one's own labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self, overload

import torch

from kinoclip.data.mini_clip import EMBEDDED
from kinoclip.outputs import TextFeatures
from kinoclip.processing import check_labels
from kinoclip.recognizer import VideoRecognizer
from kinoclip.text.chinese import chinese_texts
from kinoclip.text.descriptions import describe_labels
from kinoclip.video import VideoSource
from kinoclip.video_processing import SampledVideo, is_one_video

from .attributes import AttributeFinder
from .evidence import read_evidence
from .loading import load_recognizer

ChineseNames = str | Path | Mapping[str, str | Sequence[str]]


class Prediction(NamedTuple):
    """One label and how probable it is among those that were given."""

    label: str
    probability: float


@dataclass(frozen=True)
class Classification(Sequence[Prediction]):
    """The answer for one video: a sequence of predictions, best first.

    Args:
        predictions: the best labels.
        video: name of the video, where it has one.
        frame_indices: which frames were looked at.
        timestamps: when they are shown, in seconds after the first frame; None where the source has no clock.
        duration_seconds: of the video; None where the source has no clock.
        attributes: the phrases that described the video, best first; only with an attributes branch and a lexicon.
        saliency: label to how much each frame counted for it (sums to one); only when an explanation was asked for and
            the method weighs frames.
        frames: (T, 3, h, w) uint8, the frames that were looked at; like what follows, only when an explanation was asked for.
        attention: (T, rows, columns), how much the model looked at each patch of a frame (sums to one over it); of the
            first crop, as `frames` are.
        regions: (T, rows, columns), the region that each patch belongs to, where the model merges patches.
        entities: entity of the model's corpus to its score in each frame, the sum of the cosines of the regions that show
            it; those with the highest total, best first.
        entity_map: (T, rows, columns), which of `entities` each patch shows, -1 for another.
        languages: "english" and "chinese" to label to its probability by the names in that language alone; only with a
            Chinese branch.
        agreement: the share of the probability that both languages give to the same labels, from 0 to 1.
    """

    predictions: tuple[Prediction, ...]
    video: str | None = None
    frame_indices: list[int] = field(default_factory=list)
    timestamps: list[float] | None = None
    duration_seconds: float | None = None
    attributes: list[str] | None = None
    saliency: dict[str, list[float]] | None = None
    frames: torch.Tensor | None = field(default=None, repr=False, compare=False)
    attention: torch.Tensor | None = field(default=None, repr=False, compare=False)
    regions: torch.Tensor | None = field(default=None, repr=False, compare=False)
    entities: dict[str, list[float]] | None = None
    entity_map: torch.Tensor | None = field(default=None, repr=False, compare=False)
    languages: dict[str, dict[str, float]] | None = None
    agreement: float | None = None

    def __len__(self) -> int:
        return len(self.predictions)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...
    def __getitem__(self, index: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self.predictions[index]

    @property
    def label(self) -> str:
        """The most probable label."""
        return self.predictions[0].label


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
            lexicon_clip: the plain CLIP that finds them; the model itself where that is one.
            descriptions: label to a sentence that is read together with it.
            chinese: the Chinese names of labels, for a model with a Chinese branch.
            options: of `load_recognizer`.
        """
        if lexicon is None:
            return cls(*load_recognizer(model, **options), str(model), None, descriptions, chinese)
        recognizer, processor = load_recognizer(model, attributes=True, **options)
        finder = AttributeFinder.load(lexicon_clip or model, lexicon, **options)
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
            self._text = self.model.encode_text(**{k: v.to(self.model.device) for k, v in inputs.items()})
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
        """Decode the frames of a video that the model looks at; may run in a thread of its own."""
        sample: SampledVideo = self.video_processor.sample(video)
        return sample

    @torch.inference_mode()
    def answer(
        self, sample: SampledVideo, *, top_k: int = 5, explain: bool = False, video: str | None = None
    ) -> Classification:
        """Classify a decoded video among the labels of `set_labels`; views are averaged.

        Raises:
            ValueError: no labels were set.
        """
        text = self.text
        pixels = sample.pixel_values.to(self.model.device, self.model.dtype)
        found = None if self.attributes is None else self.attributes.find_in(sample)
        inputs = {} if found is None else self.processor(attributes=[found] * len(pixels)).to(self.model.device)
        output = self.model(pixel_values_videos=pixels, text_features=text, **inputs)
        probabilities = output.logits.float().softmax(-1).mean(0)
        best = probabilities.topk(min(top_k, len(self._labels)))
        predictions = tuple(
            Prediction(self._labels[i], p) for p, i in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        )
        evidence = {}
        if explain:
            explanation = self.model.explain(output.frames, text, pixels)
            indices = best.indices.tolist()
            evidence = read_evidence(explanation, self._labels, indices, self.video_processor.num_clips)
        return Classification(
            predictions,
            video=video,
            frame_indices=list(sample.indices),
            timestamps=sample.timestamps,
            duration_seconds=sample.duration_seconds,
            attributes=found,
            frames=sample.frames if explain else None,
            **evidence,
        )

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
