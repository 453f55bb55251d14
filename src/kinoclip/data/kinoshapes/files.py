"""Write KinoShapes as files, or view it as a Hugging Face dataset."""

import io
import json
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
from numpy.typing import NDArray

from kinoclip.whole_files import whole_folder

from .clips import KinoClip, LabelKind, Split, clip_generator, label_names, render, sample_spec

if TYPE_CHECKING:
    from datasets import Dataset


def encode_video(frames: NDArray[np.uint8], fps: int = 8, crf: int = 18) -> bytes:
    """Encode frames as H.264 in an mp4 file.

    The same frames give the same bytes with the same build of x264; another build may write other bytes.

    Args:
        frames: (T, H, W, 3) RGB, height and width even.
        fps: frames per second.
        crf: quality of x264, 0 (lossless) to 51.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames are {frames.dtype} {frames.shape}; a video needs uint8 (T, H, W, 3), T >= 1.")
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"{width}x{height} pixels: H.264 in yuv420p needs an even width and height.")
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": str(crf), "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1  # the bytes of x264 depend on its number of threads
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def write_video(path: str | Path, frames: NDArray[np.uint8], fps: int = 8, crf: int = 18) -> Path:
    """Write frames (T, H, W, 3) as an H.264 mp4; the file appears whole or not at all."""
    path = Path(path)
    content = encode_video(frames, fps, crf)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(content)
    return partial.replace(path)


def kinoshapes_clips(
    num_videos: int, seed: int = 0, *, split: Split = "train", label: LabelKind = "object", **options: Any
) -> Iterator[KinoClip]:
    """Render clips one by one, with the classes of `label` as even as `num_videos` allows.

    Args:
        num_videos: how many.
        seed: the same seed, split and options give the same frames.
        split: clips of different splits never share random numbers.
        label: which classes are evened out.
        options: of `sample_spec`, without the one that `label` decides.
    """
    names = label_names(label)
    if label == "object":
        names = tuple(options.get("labels", names))
    for index in range(num_videos):
        rng = clip_generator(seed, split, index)
        wanted = names[index % len(names)]
        key = label if label in ("verb", "background") else "label"
        yield render(sample_spec(rng, **{**options, key: wanted}))


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

    Args:
        folder: must not exist yet, or be empty. It appears whole or not at all.
        num_videos: how many.
        seed: of everything drawn.
        split: clips of different splits never share random numbers.
        label: which name goes into the field `label`.
        masks: also write `masks/NAME.npz`, each with one bool array `masks` (T, H, W).
        options: of `sample_spec`.

    Returns:
        The records of `metadata.jsonl`.

    Raises:
        FileExistsError: the folder holds something already.
        RuntimeError: another process writes it now.
    """
    clips = kinoshapes_clips(num_videos, seed, split=split, label=label, **options)
    with whole_folder(Path(folder)) as partial:
        return _write_files(partial, clips, label, masks)


def kinoshapes_dataset(
    num_videos: int, seed: int = 0, *, split: Split = "train", label: LabelKind = "object", **options: Any
) -> "Dataset":
    """Give clips as a `datasets.Dataset` held in memory.

    Columns: `video` (mp4 bytes, not decoded), `label` (a ClassLabel over `label_names(label)`), `caption`, `object`,
    `verb`, `color`, `shape`, `background`, `num_frames`, `fps` and `spans`.

    Args:
        num_videos: how many.
        seed: of everything drawn.
        split: clips of different splits never share random numbers.
        label: which name is the label.
        options: of `sample_spec`.
    """
    from datasets import ClassLabel, Dataset, Features, Value, Video

    rows: list[dict[str, Any]] = []
    for clip in kinoshapes_clips(num_videos, seed, split=split, label=label, **options):
        content = encode_video(clip.frames, clip.spec.fps)
        rows.append({"video": {"bytes": content, "path": None}, **_describe(clip, label)})
    texts = {name: Value("string") for name in ("caption", "object", "verb", "color", "shape", "background")}
    span = {name: Value("string") for name in ("label", "verb", "caption")}
    span |= {name: Value("int32") for name in ("start_frame", "end_frame")}
    span |= {name: Value("float32") for name in ("start_seconds", "end_seconds")}
    features = Features(
        {
            "video": Video(decode=False),
            "label": ClassLabel(names=list(label_names(label))),
            **texts,
            "num_frames": Value("int32"),
            "fps": Value("int32"),
            "spans": [span],
        }
    )
    return Dataset.from_list(rows, features=features)


def _write_files(folder: Path, clips: Iterator[KinoClip], label: LabelKind, masks: bool) -> list[dict[str, Any]]:
    """Write the videos, masks and metadata of clips into an empty folder."""
    (folder / "videos").mkdir()
    if masks:
        (folder / "masks").mkdir()
    records: list[dict[str, Any]] = []
    for index, clip in enumerate(clips):
        name = f"{index:05d}"
        write_video(folder / "videos" / f"{name}.mp4", clip.frames, clip.spec.fps)
        record = {"file_name": f"videos/{name}.mp4", **_describe(clip, label)}
        if masks:
            np.savez_compressed(folder / "masks" / f"{name}.npz", masks=clip.masks)
            record["masks"] = f"masks/{name}.npz"
        records.append(record)
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return records


def _describe(clip: KinoClip, label: LabelKind) -> dict[str, Any]:
    """Give everything known of a clip but its pixels."""
    named = {
        "object": clip.label,
        "verb": clip.verb,
        "color": clip.color,
        "shape": clip.shape,
        "background": clip.background,
    }
    return {
        "label": named[label],
        "caption": clip.caption,
        **named,
        "num_frames": clip.spec.num_frames,
        "fps": clip.spec.fps,
        "spans": [asdict(span) for span in clip.spans],
    }
