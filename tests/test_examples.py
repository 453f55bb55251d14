"""Every example runs as printed, with the embedded model, and stays short."""

import subprocess
import sys
from pathlib import Path

import pytest

from kinoclip.data.kinoshapes import kinoshapes_clips, write_video

EXAMPLES = Path(__file__).parents[1] / "examples"
COMMANDS = {
    "classify_my_video.py": ["{video}", "{clip}"],
    "see_why.py": ["{video}", "{folder}/why.png", "{clip}"],
    "embed_videos.py": ["{bike}", "red circle", "{video}"],
    "find_attributes.py": ["{video}", "--clip", "{clip}"],
    "train.py": ["kinoshapes/bike", "{shapes}", "{folder}/run", "training.epochs=1"],
    "train_one_step.py": ["{clip}", "{video}", "red circle", "{video}", "blue square"],
}


@pytest.fixture(scope="module")
def shapes_folder(tmp_path_factory):
    """Six clips in folders of their shape."""
    root = tmp_path_factory.mktemp("shapes")
    for number, clip in enumerate(kinoshapes_clips(6, labels=["red circle", "red star", "red ring"])):
        (root / clip.shape).mkdir(exist_ok=True)
        write_video(root / clip.shape / f"{number}.mp4", clip.frames, clip.spec.fps)
    return root


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_example_runs(name, video_path, clip_folder, bike_folder, shapes_folder, tmp_path):
    places = {"{video}": video_path, "{clip}": clip_folder, "{bike}": bike_folder, "{folder}": tmp_path}
    places["{shapes}"] = shapes_folder
    arguments = COMMANDS[name]
    for place, path in places.items():
        arguments = [argument.replace(place, str(path)) for argument in arguments]
    done = subprocess.run([sys.executable, EXAMPLES / name, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_every_example_is_run():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_example_has_at_most_40_lines(name):
    assert len((EXAMPLES / name).read_text().splitlines()) <= 40
