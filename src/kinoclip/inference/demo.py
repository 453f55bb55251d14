"""The demonstration: drawn people and shapes, recognized by the embedded models and explained."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kinoclip.explain.drawing import saliency_bar
from kinoclip.inference.classifier import Classifier
from kinoclip.inference.saving import save_explanation
from kinoclip.kinoshapes import kinoshapes_clips, label_names, write_video
from kinoclip.kinoshapes.figures.benchmark import figure_classes, sample_figures
from kinoclip.kinoshapes.figures.scenes import render_figures
from kinoclip.modeling.names import EMBEDDED, EMBEDDED_RECOGNIZER


def run_demo(folder: Path, *, seed: int = 7, num_videos: int = 4) -> Iterator[str]:
    """Write clips of people and of shapes, classify them, and yield the results line by line.

    Args:
        folder: for the clips and a picture of each answer.
        seed: of the clips; none of them was seen in training.
        num_videos: number of clips of each kind.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clips = f"{num_videos} {'clip' if num_videos == 1 else 'clips'}"
    yield f"{clips} of people, {len(figure_classes())} actions, BIKE, trained on clips of other people"
    yield from _name_actions(folder / "person", Classifier.load(EMBEDDED_RECOGNIZER), "actions", seed, num_videos)
    yield ""
    count = len(figure_classes("unseen"))
    yield f"{clips} of people, {count} other actions, zero-shot by the mean of the frames of a CLIP that saw no clip of them"
    classifier = Classifier.load(EMBEDDED, settings={"interaction": "mean"})
    yield from _name_actions(folder / "unseen", classifier, "unseen", seed, num_videos)
    yield ""
    labels = label_names("object")
    yield f"{clips} of shapes, {len(labels)} labels, zero-shot BIKE on a CLIP that saw still frames and captions of such clips"
    yield from _show_shapes(folder, Classifier.load(EMBEDDED), labels, seed, num_videos)


def _name_actions(stem: Path, classifier: Classifier, task: str, seed: int, num_videos: int) -> Iterator[str]:
    actions = figure_classes(task)
    labels = [action.label for action in actions]
    right = 0
    order = np.random.default_rng(seed).permutation(len(actions)).tolist()
    for number in range(num_videos):
        rng, action = np.random.default_rng((seed, number)), actions[order[number % len(order)]]
        clip = render_figures(sample_figures(rng, task, action, height=240, width=320))
        path = write_video(stem.with_name(f"{stem.name}_{number}.mp4"), clip.frames, clip.spec.fps)
        answer = classifier.classify(str(path), labels, top_k=3, explain=True)
        right += answer.label == clip.label
        yield ""
        yield f"{path}: {clip.caption}"
        yield f"  truth     {clip.label}"
        for label, probability in answer:
            yield f"  {probability:6.1%}    {label}"
        yield f"  picture   {save_explanation(answer, path.with_suffix('.png'))}"
    yield f"{right} of {num_videos} right"


def _show_shapes(
    folder: Path, classifier: Classifier, labels: Sequence[str], seed: int, num_videos: int
) -> Iterator[str]:
    """Name shapes that appear for a while, with the weight of each frame."""
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
