"""What the true skeletons tell of an action, by one frame, a bag of frames and the sequence.

python examples/kinofigures/oracles.py [--train 30] [--test 20]: clips per class. A classifier of single frames gives the row "one frame",
the mean of its log probabilities over 8 frames "bag of frames"; "sequence" has all 8 frames in their order, and "shuffled" the
same frames in a random one. Things are not in skeletons, so that actions with the same pose are alike.
"""

import argparse

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier

from kinoclip.kinoshapes import clip_generator
from kinoclip.kinoshapes.figures.acting import cast
from kinoclip.kinoshapes.figures.benchmark import FIGURE_TASKS, figure_classes, sample_figures

KEPT = [0, 2, 4, 6, 9, 11, 13, 15]  # of 16 frames, alike in both directions of time
TASKS = ("actions", "views", "details")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=int, default=30, help="clips per class")
    parser.add_argument("--test", type=int, default=20, help="clips per class")
    options = parser.parse_args()
    for task in TASKS:
        trained = "actions" if task == "views" else task
        groups = [action.group for action in figure_classes(task)]
        rights = measure(skeletons(trained, "train", options.train), skeletons(task, "test", options.test))
        print(f"{task} ({len(groups)} classes, chance {1 / len(groups):.1%})")
        print(f"  {'group':12}" + "".join(f"{name:>15}" for name in rights))
        for group in (*dict.fromkeys(groups), "all"):
            chosen = [index for index, one in enumerate(groups) if group in (one, "all")]
            shares = [right[np.isin(labels, chosen)].mean() for right, labels in rights.values()]
            print(f"  {group:12}" + "".join(f"{share:15.1%}" for share in shares))


def skeletons(task: str, split: str, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """Return joints of both people relative to the first pelvis, (clips, frames, numbers), and labels."""
    classes, clips, labels = figure_classes(task), [], []
    for index in range(per_class * len(classes)):
        rng = clip_generator(20270 + FIGURE_TASKS.index(task), split, index)
        spec = sample_figures(rng, task, classes[index % len(classes)])
        people = cast(spec, np.random.default_rng(spec.seed)).joints
        middle = people[0][:, 2].mean(0)
        both = [people[0] - middle, people[1] - middle if len(people) > 1 else np.zeros_like(people[0])]
        clips.append(np.concatenate(both, axis=1)[KEPT].reshape(len(KEPT), -1))
        labels.append(index % len(classes))
    return np.stack(clips), np.array(labels)


def measure(train, test) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return for each kind of reading which test clips are right, and their labels."""
    (clips, labels), (tests, truth) = train, test
    forest = ExtraTreesClassifier(60, random_state=0).fit(clips.reshape(-1, clips.shape[-1]), labels.repeat(len(KEPT)))
    frames = np.log(forest.predict_proba(tests.reshape(-1, tests.shape[-1])) + 1e-3).reshape(len(tests), len(KEPT), -1)
    answers = {
        "one frame": frames[np.arange(len(tests)), np.arange(len(tests)) % len(KEPT)],
        "bag of frames": frames.mean(1),
    }
    rng = np.random.default_rng(0)
    for name in ("shuffled", "sequence"):
        order = [clips, tests]
        if name == "shuffled":
            order = [np.stack([clip[rng.permutation(len(KEPT))] for clip in part]) for part in (clips, tests)]
        features = [np.concatenate([part, np.diff(part, axis=1)], axis=1).reshape(len(part), -1) for part in order]
        answers[name] = ExtraTreesClassifier(200, random_state=0).fit(features[0], labels).predict_proba(features[1])
    return {name: (answer.argmax(-1) == truth, truth) for name, answer in answers.items()}


if __name__ == "__main__":
    main()
