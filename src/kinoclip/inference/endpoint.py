"""Requests of a Hugging Face Inference Endpoint, whose videos and labels come from strangers."""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path
from threading import Lock
from typing import Any

from kinoclip.inference.batch_job import ISOLATED_MEGABYTES
from kinoclip.inference.classifier import Classifier
from kinoclip.modeling.video_processing import SampledVideo
from kinoclip.text.labels import split_names
from kinoclip.video import VideoDecodeError
from kinoclip.video.download import download
from kinoclip.video.errors import error_line
from kinoclip.video.isolation import IsolatedProcess

_MAX_BYTES, _MAX_SECONDS = 100_000_000, 60.0  # of a video
_MAX_VIDEOS, _MAX_LABELS = 32, 1000  # of a request
_PARAMETERS = ("candidate_labels", "labels", "top_k", "threshold")


class EndpointHandler:
    """Classify the videos of a request; `handler.py` of a published folder offers this class to the server.

    Videos are decoded in another process with a limit of memory. Paths of this machine and addresses in its network are refused.

    Args:
        path: folder of the model.
        options: of `Classifier.load`.
    """

    def __init__(self, path: str | Path, **options: Any):
        self._classifier = Classifier.load(path, **options)
        self._classifier.name = "of this endpoint"  # in errors, instead of the path
        self._process = IsolatedProcess(ISOLATED_MEGABYTES)
        self._lock = Lock()  # of the process, and of the labels, which the classifier keeps

    def __call__(self, data: Mapping[str, Any]) -> list[Any]:
        """Answer a request.

        Args:
            data: `inputs`, a video or a list of up to 32: an http(s) address, or bytes in base64, at most 100 MB; and `parameters`:
                `candidate_labels` or `labels`, a list or names with commas, by default the model's own; `top_k` (5);
                `threshold` (0), the least probability of a label to return.

        Returns:
            A dict with `label` and `score` for each label of the video, best first; or a list of such lists.

        Raises:
            ValueError: the request is invalid, or a video cannot be read.
        """
        videos, (labels, top_k, threshold) = data.get("inputs"), _read_parameters(data.get("parameters"))
        each = videos if isinstance(videos, list) else [videos]
        if not 1 <= len(each) <= _MAX_VIDEOS:
            raise ValueError(f"inputs must be a video or a list of 1 to {_MAX_VIDEOS}, got {len(each)}.")
        with self._lock:
            self._classifier.set_labels(labels)
            answers = []
            for number, video in enumerate(each, 1):
                try:
                    answer = self._classifier.answer(self._read(video), top_k=top_k)
                except VideoDecodeError as error:
                    line = error_line(error).removeprefix("<bytes>: ")
                    raise ValueError(f"Video {number} of {len(each)} cannot be used: {line}") from error
                answers.append(
                    [{"label": p.label, "score": p.probability} for p in answer if p.probability >= threshold]
                )
        return answers if isinstance(videos, list) else answers[0]

    def _read(self, video: Any) -> SampledVideo:
        content = _fetch(video)
        return self._process.call(self._classifier.reader, content, name="<bytes>", seconds=_MAX_SECONDS)


def _fetch(video: Any) -> bytes:
    """Return the bytes of a video: a string is an http(s) address or base64, never a path."""
    if isinstance(video, str) and video.lower().startswith(("http://", "https://")):
        file = download(video, max_bytes=_MAX_BYTES, timeout_seconds=_MAX_SECONDS)
        try:
            return file.read_bytes()
        finally:
            file.unlink()
    try:
        content = base64.b64decode(video.rpartition("base64,")[2], validate=True) if isinstance(video, str) else video
    except binascii.Error:
        content = None
    if not isinstance(content, bytes) or not 1 <= len(content) <= _MAX_BYTES:
        raise VideoDecodeError(
            f"It must be an http(s) address, or the bytes of a file of at most {_MAX_BYTES // 1_000_000} MB in base64, "
            f"got {video if video is None else repr(video)[:60]}."
        )
    return content


def _read_parameters(given: Any) -> tuple[tuple[str, ...] | None, int, float]:
    """Check the parameters of a request, and return labels, top_k and threshold."""
    given = {} if given is None else given
    if not isinstance(given, Mapping) or set(given) - set(_PARAMETERS):
        raise ValueError(
            f"parameters must be an object with some of {', '.join(_PARAMETERS)}, got {str(given)[:100]}."
        )
    labels = given.get("candidate_labels", given.get("labels"))
    top_k, threshold = given.get("top_k", 5), given.get("threshold", 0)
    if isinstance(labels, str):
        labels = split_names(labels)  # not `as_labels`, which reads files
    if labels is not None and (not isinstance(labels, list | tuple) or not 1 <= len(labels) <= _MAX_LABELS):
        raise ValueError(
            f"labels must be 1 to {_MAX_LABELS:,} names in a list or a text with commas, got {str(labels)[:100]}."
        )
    if type(top_k) is not int or top_k < 1:
        raise ValueError(f"top_k must be an integer of at least 1, got {top_k!r}.")
    if type(threshold) not in (int, float) or not 0 <= threshold <= 1:
        raise ValueError(f"threshold must be a number from 0 to 1, got {threshold!r}.")
    return None if labels is None else tuple(labels), top_k, threshold
