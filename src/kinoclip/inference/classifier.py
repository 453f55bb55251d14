"""Classify videos with user-defined labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from tqdm import tqdm

from kinoclip.addresses import is_address
from kinoclip.data.files import find_videos, is_video_file
from kinoclip.explain.evidence import read_evidence
from kinoclip.explain.html import notebook_page
from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.encoding import EncodedVideo, encode_videos, join_features, mean_of_views
from kinoclip.inference.feature_cache import FeatureCache
from kinoclip.kinoshapes.benchmarks import check_words
from kinoclip.methods.auto import name_with_revision
from kinoclip.methods.candidates import ChineseNames, Corpus, encode_candidates, set_chinese_names
from kinoclip.modeling.classification import Classification, Classifications, Prediction, to_probabilities
from kinoclip.modeling.layers.text_features import ensemble
from kinoclip.modeling.names import DEFAULT
from kinoclip.modeling.outputs import TextFeatures
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.modeling.video_processing import SampledVideo, is_one_video
from kinoclip.text.labels import as_labels
from kinoclip.video import VideoSource

if TYPE_CHECKING:
    from kinoclip.inference.attributes import AttributeFinder

logger = logging.getLogger(__name__)
Labels = str | Path | Sequence[str]

__all__ = ["Classification", "Classifier", "Prediction", "classify"]


class Classifier:
    """A loaded model with encoded labels.

    Args:
        model: a recognizer.
        processor: its processor.
        name: of the model, in records and errors.
        attributes: finds the attributes of each video, for a model with an attributes branch.
        descriptions: a sentence for every label, read together with it (SLLM sec. 3.3).
        chinese: Chinese names of every label, for a model with a Chinese branch: a packaged set, a file, or a mapping.

    Attributes:
        corpus: names of the corpora that replaced the model's own, for records.

    Raises:
        ValueError: the model has no branch for attributes or Chinese names, or the processor has no tokenizer for Chinese.
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
        if attributes is not None and "attribute_input_ids" not in model.used_inputs():
            raise ValueError(f"The model {name} has no attributes branch. Leave the lexicon out.")
        self.model, self.processor, self.name = model, processor, name
        self.video_processor = processor.video_processor
        self.attributes, self.descriptions = attributes, descriptions
        self.chinese: dict[str, list[str]] | None = None
        self.features: FeatureCache | None = None
        self.corpus: str | None = None
        self._labels: tuple[str, ...] = ()
        self._text: TextFeatures | None = None
        if chinese is not None:
            self.set_chinese(chinese)

    @classmethod
    def load(
        cls,
        model: str | Path = DEFAULT,
        *,
        lexicon: str | Path | Sequence[str] | None = None,
        lexicon_clip: str | Path | None = None,
        descriptions: Mapping[str, str] | None = None,
        chinese: ChineseNames | None = None,
        corpus: Corpus | None = None,
        **options: Any,
    ) -> Self:
        """Load a model by name.

        Args:
            model: see `load_recognizer`.
            lexicon: phrases for the attributes branch: a file, a name such as "kinetics400" (`load_lexicon`), or the phrases.
                A plain CLIP gets the branch that needs no training.
            lexicon_clip: the plain CLIP that finds them, in frames of its own size and number; by default the model.
            descriptions: see `Classifier`.
            chinese: see `Classifier`.
            corpus: see `load_recognizer`.
            options: of `load_recognizer`.
        """
        recognizer, processor = load_recognizer(model, attributes=lexicon is not None, corpus=corpus, **options)
        finder = None
        if lexicon is not None:
            from kinoclip.inference.attributes import AttributeFinder

            finder = AttributeFinder.load(lexicon_clip or model, lexicon, processor.num_attributes, **options)
        classifier = cls(recognizer, processor, str(model), finder, descriptions, chinese)
        if corpus:
            classifier.corpus = ", ".join(map(str, [corpus] if isinstance(corpus, str | Path) else corpus))
        return classifier

    def set_chinese(self, names: ChineseNames) -> None:
        """Set the Chinese names of labels; see `set_chinese_names`."""
        if self.descriptions is not None:
            raise ValueError("Descriptions are in English, so they cannot be used with Chinese names. Leave one out.")
        self.chinese = set_chinese_names(self.model, self.processor, names, self.name)
        self._labels, self._text = (), None

    def store_features(self, folder: str | Path) -> FeatureCache:
        """Store the features of texts in a folder, and return the cache for those of videos."""
        self.features = FeatureCache(folder, self.model, self.video_processor)
        return self.features

    def set_labels(self, labels: Labels | None) -> tuple[str, ...]:
        """Encode labels (`as_labels`), unless they are encoded already; None means those that the checkpoint carries.

        Raises:
            ValueError: labels are empty, too long or duplicated, or the checkpoint cannot read or lacks them.
        """
        if labels is None:
            if self.chinese is not None:
                raise ValueError("Chinese names belong to labels that are given. Give labels too.")
            text = self.model.candidates()
            if text is None:
                raise ValueError(f"The model {self.name} carries no labels of its own. Give labels.")
            names: dict[int, str] = self.model.config.id2label  # type: ignore[assignment]
            self._text, self._labels = text, tuple(names[i] for i in range(text.embeds.shape[1]))
            return self._labels
        labels = as_labels(labels)
        if len(labels) == 1:
            logger.warning("There is only the label %r, so its probability is always 1. Give several.", labels[0])
        if not labels or labels != self._labels:
            self._text = self.encode_labels(
                labels, encode=None if self.features is None else self.features.encode_text
            )
            self._labels = labels
        return labels

    def encode_labels(self, labels: Sequence[str], encode: Callable[..., TextFeatures] | None = None) -> TextFeatures:
        """Encode labels as candidates; see `encode_candidates`."""
        check_words(self.name, labels)
        return encode_candidates(
            self.model,
            self.processor,
            labels,
            name=self.name,
            descriptions=self.descriptions,
            chinese=self.chinese,
            encode=encode,
        )

    @property
    def source(self) -> str:
        """See `name_with_revision`."""
        return name_with_revision(self.name)

    @property
    def text(self) -> TextFeatures:
        """The features of the labels; a ValueError if none were set."""
        if self._text is None:
            raise ValueError("No labels were set. Call `set_labels` first.")
        return self._text

    def read(self, video: VideoSource) -> SampledVideo:
        """Decode the frames for the model and for the finder of attributes. Thread-safe."""
        return self.reader(video)

    @property
    def reader(self) -> Callable[[VideoSource], SampledVideo]:
        """The function of `read`, picklable."""
        if self.attributes is not None:
            return self.attributes.reader(self.video_processor)
        sample: Callable[[VideoSource], SampledVideo] = self.video_processor.sample
        return sample

    def answer(
        self, sample: SampledVideo, *, top_k: int = 5, explain: bool = False, video: str | None = None
    ) -> Classification:
        """Classify a decoded video; the probabilities of its views are averaged."""
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
        """Classify a batch of decoded or encoded videos.

        Raises:
            ValueError: no labels were set; or an explanation or attributes need the frames of an encoded video.
        """
        text = self.text
        samples = [video for video in videos if isinstance(video, SampledVideo)]
        if len(samples) < len(videos) and (explain or self.attributes is not None):
            raise ValueError("An explanation and attributes need the frames, but the videos are encoded already.")
        encoded = encode_videos(self.model, videos)
        frames = join_features(self.model, encoded)
        views = len(frames.embeds) // len(videos)
        found, inputs = None, dict[str, Any]()
        if self.attributes is not None:
            found = [self.attributes.find_in(sample) for sample in samples]
            rows = [phrases for phrases in found for _ in range(views)]
            inputs = dict(self.processor(attributes=rows).to(self.model.device))
        logits = self.model(frame_features=frames, text_features=text, **inputs).logits
        best = to_probabilities(logits).unflatten(0, (-1, views)).mean(1).topk(min(top_k, len(self._labels)))
        answers = []
        for number, video in enumerate(encoded):
            indices = best.indices[number].tolist()
            predictions = zip(indices, best.values[number].tolist(), strict=True)
            answers.append(
                Classification(
                    tuple(Prediction(self._labels[i], probability) for i, probability in predictions),
                    video=None if names is None else names[number],
                    frame_indices=video.indices,
                    timestamps=video.timestamps,
                    duration_seconds=video.duration_seconds,
                    model=self.source,
                    attributes=None if found is None else found[number],
                    **(self._explain(samples[number], video, indices) if explain else {}),
                )
            )
        return answers

    def _explain(self, sample: SampledVideo, video: EncodedVideo, chosen: Sequence[int]) -> dict[str, Any]:
        pixels = sample.pixel_values.to(self.model.device, self.model.dtype)
        explanation = self.model.explain(video.features, self.text, pixels)
        evidence = read_evidence(explanation, self._labels, chosen, self.video_processor.num_clips)
        return {"frames": sample.frames, "page": notebook_page, **evidence}

    def classify(
        self,
        videos: VideoSource | Sequence[VideoSource],
        labels: Labels | None = None,
        *,
        top_k: int = 5,
        explain: bool = False,
    ) -> Any:
        """Classify one video or several; see `kinoclip.classify`."""
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}.")
        self.set_labels(labels)
        each, is_one = _list_videos(videos)
        answers = Classifications(
            self.answer(self.read(video), top_k=top_k, explain=explain, video=_source_name(video))
            for video in _with_progress(each)
        )
        return answers[0] if is_one else answers

    predict = classify

    @torch.inference_mode()
    def encode_video(self, videos: VideoSource | Sequence[VideoSource]) -> torch.Tensor:
        """Encode videos: (N, D), unit length; the mean frame where the method weighs frames for each label."""
        embed, rows = self.model.unwrap().embed_video, []
        for video in _with_progress(_list_videos(videos)[0]):
            frames = join_features(self.model, encode_videos(self.model, [self.read(video)]))
            rows.append(mean_of_views(embed(frames), 1))
        if not rows:
            raise ValueError("The list of videos is empty. Pass at least one.")
        return torch.cat(rows)

    @torch.inference_mode()
    def encode_text(self, labels: str | Sequence[str]) -> torch.Tensor:
        """Encode labels in the templates of the model: (K, D), unit length."""
        labels = [labels] if isinstance(labels, str) else list(labels)
        return ensemble(self.encode_labels(labels).embeds).float().cpu()

    @torch.inference_mode()
    def similarity(self, video: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Compare videos (N, D) with labels (K, D) as the method does, by cosine in most of them: (N, K)."""
        own: Any = {"device": self.model.device, "dtype": self.model.dtype}
        return self.model.match(video.to(**own), TextFeatures(embeds=text.to(**own)[None])).float().cpu()

    def __repr__(self) -> str:
        return f"Classifier({self.name!r}, {type(self.model).__name__}, {len(self._labels)} labels)"


def classify(
    videos: VideoSource | Sequence[VideoSource],
    labels: Labels | None = None,
    *,
    model: str | Path | Classifier = DEFAULT,
    top_k: int = 5,
    explain: bool = False,
    chinese: ChineseNames | None = None,
    **options: Any,
) -> Any:
    """Classify a video, or each of a list of videos, among your own labels.

    Args:
        videos: a path, an address, bytes, a file, an array (T, H, W, 3), a list of images or a folder of frames (all sources of
            `VideoReader`); or a list, a generator or a `datasets` column of such; or a folder of videos (`find_videos`), or a
            pattern such as "videos/*.mp4".
        labels: the names to choose from: a list, one string with commas, a file, or a packaged set such as "kinetics400"; by
            default those that the checkpoint carries.
        model: a folder or hub id, a plain CLIP for zero-shot use, a `Classifier` (nothing is loaded again), or "mini", the
            embedded model, which knows colored shapes only. The default is OpenAI's CLIP ViT-B/32, which is downloaded once.
        top_k: number of predictions.
        explain: add the frames and the explanation: the saliency of each frame, attention and entities, where the method has
            them.
        chinese: Chinese names of the labels, for a model with a Chinese branch: a packaged set, a file, or a mapping.
        options: of `load_recognizer`, such as `device` and `dtype`, for a model that is loaded.

    Returns:
        A `Classification`: a sequence of (label, probability), best first; or a list of them for several videos.

    Raises:
        FileNotFoundError: the video or the model does not exist.
        VideoDecodeError: a video cannot be read.
        ValueError: labels are empty, too long or duplicated, or the model cannot be used.
    """
    if isinstance(model, Classifier) and options:
        raise TypeError(
            f"{', '.join(options)} belong to a model that is loaded by name. Pass them to Classifier.load."
        )
    classifier = model if isinstance(model, Classifier) else Classifier.load(model, **options)
    if chinese is not None:
        classifier.set_chinese(chinese)
    return classifier.classify(videos, labels, top_k=top_k, explain=explain)


def _list_videos(videos: Any) -> tuple[Iterable[VideoSource], bool]:
    """Return the videos of an argument, patterns expanded, and whether it is a single one."""
    if is_one_video(videos):
        found = _expand(videos)
        return ([videos], True) if found is None else (found, False)
    each = (one for video in videos for one in (_expand(video) or [video]))
    return (list(each) if isinstance(videos, list | tuple) else each), False  # a stream is not held


def _expand(video: VideoSource) -> list[str] | None:
    """Return the videos in a folder, or the files that match a pattern; None for a single video, such as a folder of frames."""
    if (is_address(video) and not is_video_file(video)) or (isinstance(video, str | Path) and Path(video).is_dir()):
        inside = find_videos([str(video)]).videos
        if not inside:
            raise FileNotFoundError(f"The folder {video} holds no videos. Name videos, or folders of videos.")
        return None if inside == [str(Path(video))] else inside
    if not isinstance(video, str | Path) or not has_magic(str(video)) or "://" in str(video) or Path(video).exists():
        return None
    found = sorted(glob(str(video), recursive=True))  # noqa: PTH207, a Path takes no absolute pattern
    if not found:
        raise FileNotFoundError(f"No file matches {video}. Check the pattern and the folder.")
    return found


def _with_progress(videos: Iterable[VideoSource]) -> Iterable[VideoSource]:
    """Show the progress on stderr, if there are several videos and it is a terminal."""
    is_single = isinstance(videos, list) and len(videos) == 1
    shown: Iterable[VideoSource] = tqdm(
        videos, unit=" videos", disable=True if is_single else None
    )  # None: on a terminal
    return shown


def _source_name(video: VideoSource) -> str | None:
    """Return the path, URL or file name of a video; None for data without a name."""
    video = video.get("path") or "" if isinstance(video, Mapping) else video
    name = getattr(video, "name", video)
    return str(name) or None if isinstance(name, str | Path) else None
