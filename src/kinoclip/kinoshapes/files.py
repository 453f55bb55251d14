"""Encode KinoShapes as video files, as a folder, or as a Hugging Face dataset."""

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from kinoclip.kinoshapes.clips import (
    SPLITS,
    KinoClip,
    LabelKind,
    Split,
    clip_generator,
    label_names,
    render,
    sample_spec,
)
from kinoclip.storage import atomic_folder, readable_by, write_bytes

if TYPE_CHECKING:
    from datasets import Dataset

CLIPS_PER_CLASS: dict[Split, int] = {"train": 64, "validation": 8, "test": 20}
_MARK = "KinoShapes of kinoclip"  # comment in the files, by which they are recognized


class Clip(Protocol):
    """What the clips of all benchmarks have in common."""

    @property
    def spec(self) -> Any:
        """What the clip was rendered from, with its `fps`."""

    @property
    def frames(self) -> NDArray[np.uint8]:
        """(T, H, W, 3)."""


def encode_video(frames: NDArray[np.uint8], fps: int = 8, crf: int = 18) -> bytes:
    """Encode RGB frames (T, H, W, 3), of even height and width, as H.264 in an mp4 file.

    The same frames give the same bytes with the same build of x264 if the width is a multiple of 128; another build may write other
    bytes. At other widths the lookahead of x264 reads memory that it did not set, and a pixel can differ slightly from call to call.
    `crf` is the quality of x264, 0 (lossless) to 51.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames must be uint8 (T, H, W, 3) with T >= 1, got {frames.dtype} {frames.shape}.")
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"H.264 in yuv420p needs an even width and height, got {width}x{height} pixels.")
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        container.metadata["comment"] = _MARK
        stream.thread_count = 1  # the bytes of x264 depend on its number of threads
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def write_video(path: str | Path, frames: NDArray[np.uint8], fps: int = 8, crf: int = 18) -> Path:
    """Write frames (T, H, W, 3) as an H.264 mp4, atomically; an existing file of this function is replaced.

    Raises:
        FileExistsError: the file is somebody else's.
    """
    content = encode_video(frames, fps, crf)
    return write_bytes(path, content, owns=_is_marked)


@readable_by
def _is_marked(path: Path) -> bool:
    with av.open(str(path)) as container:
        return container.metadata["comment"] == _MARK


def kinoshapes_clips(
    num_videos: int, seed: int = 0, *, split: Split = "train", label: LabelKind = "object", **options: Any
) -> Iterator[KinoClip]:
    """Render clips one by one, with the classes of `label` as even as `num_videos` allows.

    The same seed, split and options give the same frames; clips of different splits never share random numbers. Options are those
    of `sample_spec`, without the one that `label` decides.
    """
    names: Sequence[str] = options.get("labels", label_names(label)) if label == "object" else label_names(label)
    key = label if label in ("verb", "background") else "label"
    for index in range(num_videos):
        rng = clip_generator(seed, split, index)
        yield render(sample_spec(rng, **{**options, key: names[index % len(names)]}))


def write_kinoshapes(
    folder: str | Path,
    num_videos: int,
    seed: int = 0,
    *,
    split: Split = "train",
    label: LabelKind = "object",
    masks: bool = True,
    **options: Any,
) -> list[dict[str, Any]]:
    """Write clips as mp4 files with a `metadata.jsonl`, in the layout that `load_dataset("videofolder")` reads.

    The folder must be new or empty and is written atomically; the clips are those of `kinoshapes_clips`. `masks` also writes
    `masks/NAME.npz`, each with one bool array `masks` (T, H, W). Returns the records of `metadata.jsonl`.
    """
    records: list[dict[str, Any]] = []
    with atomic_folder(folder) as temporary:
        for part in ("videos", "masks") if masks else ("videos",):
            (temporary / part).mkdir()
        for index, clip in enumerate(kinoshapes_clips(num_videos, seed, split=split, label=label, **options)):
            file_name = f"videos/{index:05d}.mp4"
            (temporary / file_name).write_bytes(encode_video(clip.frames, clip.spec.fps))
            records.append({"file_name": file_name, **_describe(clip, label)})
            if masks:
                records[-1]["masks"] = f"masks/{index:05d}.npz"
                np.savez_compressed(temporary / records[-1]["masks"], masks=clip.masks)
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (temporary / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return records


def kinoshapes_dataset(
    num_videos: int, seed: int = 0, *, split: Split = "train", label: LabelKind = "object", **options: Any
) -> "Dataset":
    """Build a `datasets.Dataset` of clips in memory; the arguments are those of `kinoshapes_clips`.

    Columns: `video` (mp4 bytes, not decoded), `label` (a ClassLabel over `label_names(label)`), `caption`, `object`,
    `verb`, `color`, `shape`, `background`, `num_frames`, `fps` and `spans`.
    """
    from datasets import ClassLabel, Value

    clips = kinoshapes_clips(num_videos, seed, split=split, label=label, **options)
    text, number = Value("string"), Value("int32")
    features = {"label": ClassLabel(names=list(label_names(label))), "caption": text, "object": text}
    features |= dict.fromkeys(("verb", "color", "shape", "background"), text) | {"num_frames": number, "fps": number}
    return clip_dataset(((clip, _describe(clip, label)) for clip in clips), features)


def clip_dataset(clips: Iterable[tuple[Clip, Mapping[str, Any]]], features: Mapping[str, Any]) -> "Dataset":
    """Build a `datasets.Dataset` of clips and their records, with the features of the columns between video and spans."""
    from datasets import Dataset, Features, Value, Video

    span = dict.fromkeys(("label", "verb", "caption"), Value("string"))
    span |= dict.fromkeys(("start_frame", "end_frame"), Value("int32"))
    span |= dict.fromkeys(("start_seconds", "end_seconds"), Value("float32"))
    rows = [
        {"video": {"bytes": encode_video(clip.frames, clip.spec.fps), "path": None}, **record}
        for clip, record in clips
    ]
    return Dataset.from_list(rows, features=Features({"video": Video(decode=False), **features, "spans": [span]}))


def build_task(
    names: Sequence[str],
    multi_label: bool,
    split: Split,
    clips: Iterable[tuple[Clip, Mapping[str, Any]]],
    clips_per_class: int | None,
) -> "Dataset":
    """Build a split of a benchmark's task from the first clips of an endless series whose classes take turns."""
    from datasets import ClassLabel, List, Value

    if split not in SPLITS:
        raise ValueError(f"The split must be one of {', '.join(SPLITS)}, got {split!r}.")
    label = ClassLabel(names=list(names))
    features = {"label": List(label) if multi_label else label} | dict.fromkeys(("name", "caption"), Value("string"))
    return clip_dataset(islice(clips, len(names) * (clips_per_class or CLIPS_PER_CLASS[split])), features)


def _describe(clip: KinoClip, label: LabelKind) -> dict[str, Any]:
    names = {"object": clip.label} | {kind: getattr(clip, kind) for kind in ("verb", "color", "shape", "background")}
    record = {"label": names[label], "caption": clip.caption, **names, "num_frames": clip.spec.num_frames}
    return {**record, "fps": clip.spec.fps, "spans": [asdict(span) for span in clip.spans]}
