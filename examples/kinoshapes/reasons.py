"""Do reasons point at what is there? python examples/kinoshapes/reasons.py [MODEL ...] [--clips 200].

KinoShapes knows in which frames an object is seen and on which pixels. A model is a folder, such as those that
`kinoclip reproduce benchmark --output DIR` leaves in DIR/runs, or mini.
"""

import argparse
from statistics import fmean

import torch
from torch.nn.functional import avg_pool2d

from kinoclip import Classification, Classifier
from kinoclip.kinoshapes import OBJECTS, KinoClip, kinoshapes_clips


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["mini"])
    parser.add_argument("--clips", type=int, default=200, help="how many, which no training saw")
    options = parser.parse_args()
    for name in options.models:
        classifier = Classifier.load(name)
        found: dict[str, list[float]] = {}
        for clip in kinoshapes_clips(options.clips, seed=12, split="test", untrimmed=True):
            answer = classifier.classify(clip.frames, OBJECTS, top_k=len(OBJECTS), explain=True)
            for measure, value in compare(answer, clip).items():
                found.setdefault(measure, []).append(value)
        print(f"{name}, {options.clips} clips of an object that is there for a while")
        for measure, values in found.items():
            print(f"  {fmean(values):6.1%}  {measure}")


def compare(answer: Classification, clip: KinoClip) -> dict[str, float]:
    """Compare the reasons for the label that is true with the truth."""
    masks = torch.from_numpy(clip.masks[answer.frame_indices])
    seen = masks.flatten(1).any(1)
    found = {"right": float(answer.label == clip.label), "frames that show it": seen.double().mean().item()}
    if answer.saliency is not None:
        weights = torch.tensor(answer.saliency[clip.label])
        found["saliency on frames that show it"] = weights[seen].sum().item()
        found["most salient frame shows it"] = float(seen[weights.argmax()])
    if answer.attention is None:
        return found
    covered = cover(masks, answer.attention.shape[1:])[seen]
    attention = answer.attention[seen]
    found["of those frames, its area"] = covered.mean().item()
    found["attention on it"] = (attention * covered).sum((1, 2)).mean().item()
    found["patch with most attention is on it"] = (
        (covered.flatten(1).gather(1, attention.flatten(1).argmax(1, keepdim=True)) > 0).double().mean().item()
    )
    if answer.entities is not None:
        names = list(answer.entities)
        named = answer.entity_map[seen] == names.index(clip.label) if clip.label in names else torch.zeros(1)
        found["its name is among the entities"] = float(clip.label in names)
        if named.any():
            found["where it is, the area of patches of its name on it"] = covered[named].mean().item()
            found["where it is, share of it under its name"] = (covered[named].sum() / covered.sum()).item()
    return found


def cover(masks: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Give the share of each patch that an object covers; the model sees the middle square."""
    side = masks.shape[1]
    left = (masks.shape[2] - side) // 2
    return avg_pool2d(masks[:, None, :, left : left + side].float(), side // grid[0])[:, 0]


if __name__ == "__main__":
    main()
