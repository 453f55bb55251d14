"""How often sampling by motion takes frames that show an action: python examples/kinofigures/motion.py [--clips 20].

The validation clips, as many of each class, have 64 frames with three actions and pauses. For each rule: the share of 8 sampled frames that
show an action, and the share of actions that at least one of them shows.
"""

import argparse

import numpy as np

from kinoclip.kinoshapes.figures.benchmark import figures_dataset
from kinoclip.modeling.video_processing import RecognizerVideoProcessor

RULES = {
    "equal distances": {"sampling": "segment_center"},
    "differences of pixels": {"sampling": "motion"},
    "sizes of packets": {"sampling": "motion", "motion": "packets"},
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=20, help="validation clips per class")
    dataset = figures_dataset("untrimmed", "validation", clips_per_class=parser.parse_args(arguments).clips)
    print(f"{'':24}{'frames':>10}{'actions':>10}")
    for name, rule in RULES.items():
        processor = RecognizerVideoProcessor(num_frames=8, **rule)
        inside = []
        for row in dataset:
            indices = processor.sample(row["video"]["bytes"]).indices
            spans = [range(span["start_frame"], span["end_frame"]) for span in row["spans"]]
            inside.append([np.isin(indices, span) for span in spans])
        shown = np.array(inside)  # clips, actions, frames
        print(f"{name:24}{shown.any(1).mean():10.1%}{shown.any(2).mean():10.1%}")


if __name__ == "__main__":
    main()
