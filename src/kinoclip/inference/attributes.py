"""Find attributes of videos: the phrases of a lexicon that match their frames."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.encoding import EncodedVideo, encode_videos
from kinoclip.kinoshapes.benchmarks import BENCHMARKS, find_corpus
from kinoclip.modeling.classification import ScoreError
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.modeling.video_processing import RecognizerVideoProcessor, SampledVideo
from kinoclip.text.attributes import rank_attributes
from kinoclip.text.labels import LABEL_SETS, check_labels, load_names, packaged_text, read_labels
from kinoclip.text.wordnet import noun_phrases
from kinoclip.video import VideoSource


def _benchmark_phrases(name: str) -> list[str]:
    return [entity.unit for entity in find_corpus(name) or ()]


# name to a function that returns the phrases; where it has an argument, that follows a colon, as in "wordnet:noun.artifact"
LEXICONS: dict[str, Callable[..., Sequence[str]]] = {
    **{name: partial(load_names, name) for name in LABEL_SETS},
    "imagenet1k": lambda: json.loads(packaged_text("imagenet1k.json"))["labels"],
    **{name: partial(_benchmark_phrases, name) for name in BENCHMARKS},
    "wordnet": noun_phrases,
}
# phrases that are encoded at once
_CHUNK = 4096


def load_lexicon(source: str | Path | Sequence[str]) -> list[str]:
    """Load the phrases of a lexicon: a name of `LEXICONS`, a file (`read_labels`), or a sequence as it is.

    Raises:
        FileNotFoundError: the file does not exist, or WordNet is not installed.
        ValueError: the file or the argument of the lexicon is invalid.
    """
    if not isinstance(source, str | Path):
        return list(source)
    name, colon, argument = str(source).partition(":")
    if name in LEXICONS and not Path(source).exists():
        read = LEXICONS[name]
        if colon and not signature(read).parameters:
            raise ValueError(f"The lexicon {name!r} has no parts, got {str(source)!r}. Leave the colon out.")
        return list(read(argument) if colon else read())
    if not Path(source).suffix and not Path(source).exists():
        raise FileNotFoundError(f"The lexicon must be a file, or one of {', '.join(LEXICONS)}; got {str(source)!r}.")
    return read_labels(source)


@dataclass(frozen=True)
class DescribedVideo(SampledVideo):
    """A decoded video with the pixels (V, T, 3, H, W) of the attribute finder's own processor."""

    attribute_pixels: Tensor


class AttributeFinder:
    """Describes videos by phrases of a lexicon, without training.

    Args:
        model: a recognizer on a CLIP as it was trained; the official attributes are those of ViT-L/14.
        processor: its processor.
        lexicon: the phrases to choose from; the official lexicon is the class names of Kinetics-400.
        top_k: number of phrases per video.
        name: of the CLIP, in records.

    Source: BIKE sec. 2.2 and Table 6g; the official code publishes the phrases that were found, not their search.
    """

    @torch.inference_mode()
    def __init__(self, model: VideoRecognizer, processor: Any, lexicon: Sequence[str], top_k: int = 5, name: str = ""):
        self.model, self.processor, self.name = model, processor, name
        self.lexicon, self.top_k = list(lexicon), top_k
        check_labels(self.lexicon)
        embeds = []
        for start in range(0, len(self.lexicon), _CHUNK):
            inputs = processor(text=self.lexicon[start : start + _CHUNK]).items()
            embeds.append(model.encode_text(**{name: tensor.to(model.device) for name, tensor in inputs}).embeds[0])
        self._embeds = torch.cat(embeds)

    @classmethod
    def load(cls, clip: str | Path, lexicon: str | Path | Sequence[str], top_k: int = 5, **options: Any) -> Self:
        """Load a CLIP by name and a lexicon, see `load_lexicon`; `options` are those of `load_recognizer`.

        Raises:
            FileNotFoundError: the lexicon or the model does not exist.
            ValueError: the lexicon is empty or cannot be read.
        """
        return cls(*load_recognizer(clip, **options), load_lexicon(lexicon), top_k, str(clip))

    def find(self, video: VideoSource, **options: Any) -> list[str]:
        """Return the phrases that describe a video, best first; `options` are those of `sample`."""
        return self.find_in(self.processor.video_processor.sample(video, **options))

    def reader(self, videos: RecognizerVideoProcessor) -> Callable[[VideoSource], SampledVideo]:
        """Return a function that decodes a video with a recognizer's video processor, and with the finder's if that differs."""
        own: RecognizerVideoProcessor = self.processor.video_processor
        return videos.sample if own.to_dict() == videos.to_dict() else partial(_read_both, videos, own)

    @torch.inference_mode()
    def find_in(self, video: SampledVideo | EncodedVideo) -> list[str]:
        """Return the phrases that describe a decoded or encoded video, best first.

        Raises:
            ScoreError: the features of the video are NaN or infinite.
        """
        if isinstance(video, DescribedVideo):
            video = replace(video, pixel_values=video.attribute_pixels)
        [encoded] = encode_videos(self.model, [video])
        frames = encoded.features.embeds.to(self._embeds).flatten(0, 1)[None]
        indices, cosines = rank_attributes(frames, self._embeds, min(self.top_k, len(self.lexicon)))
        if not cosines.isfinite().all():
            raise ScoreError(
                "The features of the frames are NaN or infinite. Check the weights, or use dtype=float32."
            )
        return [self.lexicon[i] for i in indices[0].tolist()]


def _read_both(videos: RecognizerVideoProcessor, own: RecognizerVideoProcessor, video: VideoSource) -> DescribedVideo:
    return DescribedVideo(**vars(videos.sample(video)), attribute_pixels=own.sample(video).pixel_values)
