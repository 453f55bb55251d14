"""The demonstration: generated clips, classified zero-shot by the embedded model and explained."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kinoclip.explain.drawing import saliency_bar
from kinoclip.inference.classifier import Classifier
from kinoclip.inference.saving import save_explanation
from kinoclip.kinoshapes import kinoshapes_clips, label_names, write_video
from kinoclip.modeling.names import EMBEDDED


def run_demo(folder: Path, *, seed: int = 7, num_videos: int = 4) -> Iterator[str]:
    """Write clips in which a shape appears for a while, classify them, and yield the results line by line.

    Args:
        folder: for the clips and a picture of each answer.
        seed: of the clips; none of them was seen in training.
        num_videos: number of clips.
    """
    folder.mkdir(parents=True, exist_ok=True)
    classifier = Classifier.load(EMBEDDED)
    labels = label_names("object")
    noun = "clip" if num_videos == 1 else "clips"
    yield f"{num_videos} {noun}, {len(labels)} labels, zero-shot BIKE on a CLIP that saw still frames and captions of such clips"
    right = 0
    shuffled = tuple(np.random.default_rng(seed).permutation(labels).tolist())
    for number, clip in enumerate(kinoshapes_clips(num_videos, seed, split="test", untrimmed=True, labels=shuffled)):
        path, span = write_video(folder / f"clip_{number}.mp4", clip.frames, clip.spec.fps), clip.spans[0]
        answer = classifier.classify(str(path), labels, top_k=3, explain=True)
        picture = save_explanation(answer, path.with_suffix(".png"))
        right += answer.label == clip.label
        inside = "".join(" █"[span.start_frame <= index < span.end_frame] for index in answer.frame_indices)
        yield ""
        yield f"{path}: {clip.caption}"
        yield f"  truth     {clip.label}, seen from {span.start_seconds:.1f} s to {span.end_seconds:.1f} s"
        for label, probability in answer:
            yield f"  {probability:6.1%}    {label}"
        yield f"  seen      |{inside}|"
        bar = saliency_bar((answer.saliency or {})[answer.label])
        yield f"  saliency  |{bar}|  of {answer.label!r}, one column per frame"
        yield f"  picture   {picture}"
    yield f"{right} of {num_videos} right"
