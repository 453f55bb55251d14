"""The demonstration: made-up clips, named zero-shot by the embedded model, with the reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kinoclip.data.kinoshapes import KinoClip, kinoshapes_clips, label_names, write_video

from .classify import Classification, Classifier
from .explain import draw_explanation, saliency_bar


def run_demo(folder: Path, *, seed: int = 7, num_videos: int = 4) -> Iterator[str]:
    """Make clips in which a shape appears for a while, name them, and say line by line what was seen.

    Args:
        folder: gets the clips and a picture of each answer.
        seed: which clips are made; none of them was seen in training.
        num_videos: how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classifier = Classifier.load()
    labels = label_names("object")
    yield f"{num_videos} {'clip' if num_videos == 1 else 'clips'}, {len(labels)} labels, zero-shot BIKE on a CLIP that saw still frames and captions of such clips"
    right = 0
    shuffled = tuple(np.random.default_rng(seed).permutation(labels).tolist())
    clips = kinoshapes_clips(num_videos, seed, split="test", untrimmed=True, labels=shuffled)
    for number, clip in enumerate(clips):
        path = write_video(folder / f"clip_{number}.mp4", clip.frames, clip.spec.fps)
        answer = classifier.classify(str(path), labels, top_k=3, explain=True)
        picture = path.with_suffix(".png")
        draw_explanation(answer).save(picture)
        right += answer.label == clip.label
        yield from _describe(path, picture, clip, answer)
    yield f"{right} of {num_videos} right"


def _describe(path: Path, picture: Path, clip: KinoClip, answer: Classification) -> Iterator[str]:
    span = clip.spans[0]
    yield ""
    yield f"{path}: {clip.caption}"
    yield f"  truth     {clip.label}, seen from {span.start_seconds:.1f} s to {span.end_seconds:.1f} s"
    for label, probability in answer:
        yield f"  {probability:6.1%}    {label}"
    inside = [span.start_frame <= index < span.end_frame for index in answer.frame_indices]
    weights = (answer.saliency or {})[answer.label]
    yield f"  seen      |{''.join('█' if seen else ' ' for seen in inside)}|"
    yield f"  saliency  |{saliency_bar(weights)}|  of {answer.label!r}, one column per frame"
    yield f"  picture   {picture}"
