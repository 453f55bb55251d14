"""Labels mean the same in Python, on the command line, in a pipeline and in the Space."""

import json
import shutil

import pytest
from PIL import Image
from transformers import pipeline

import kinoclip
from kinoclip.cli import main
from kinoclip.space.limits import Limits, read_labels
from kinoclip.text.labels import load_names

NAMES = ["red circle", "blue square"]
TEXTS = [
    "red circle, blue square",
    "red circle;blue square",
    "red circle\nblue square",
    " red circle ,,blue square, ",
    "red circle,\n\nblue square,\n",
]


@pytest.fixture
def answer_with(request, bike_folder, video_path, capsys):
    """A function that classifies with labels in one of the entry points, and returns the names that it knew."""

    def python(labels):
        return [name for name, _ in kinoclip.classify(video_path, labels, model=bike_folder)]

    def command(labels):
        capsys.readouterr()
        assert main(["classify", str(video_path), "--labels", labels, "--model", str(bike_folder)]) == 0
        return [one["label"] for one in json.loads(capsys.readouterr().out)["predictions"]]

    def zero_shot(labels):
        recognize = pipeline("zero-shot-video-classification", model=str(bike_folder))
        return [one["label"] for one in recognize(str(video_path), candidate_labels=labels)]

    def space(labels):
        return read_labels(labels, Limits())

    return {"python": python, "command": command, "pipeline": zero_shot, "space": space}[request.param]


@pytest.mark.parametrize("answer_with", ["python", "command", "pipeline", "space"], indirect=True)
@pytest.mark.parametrize("labels", TEXTS)
def test_labels_in_one_text_are_split(answer_with, labels):
    assert sorted(answer_with(labels)) == sorted(NAMES)


@pytest.mark.parametrize("answer_with", ["python", "command", "pipeline"], indirect=True)
def test_a_file_and_a_packaged_set_are_named_like_labels(answer_with, tmp_path):
    (tmp_path / "labels.txt").write_text("red circle\n\nblue square\n")
    assert sorted(answer_with(str(tmp_path / "labels.txt"))) == sorted(NAMES)
    assert set(answer_with("hmdb51")) <= set(load_names("hmdb51"))


@pytest.mark.parametrize("answer_with", ["python", "pipeline"], indirect=True)
def test_a_list_may_hold_labels_with_commas(answer_with):
    assert sorted(answer_with(["pushing, slowly", "jumping"])) == ["jumping", "pushing, slowly"]


def test_a_single_label_is_warned_about(bike_folder, video_path, caplog):
    kinoclip.classify(video_path, "red circle", model=bike_folder)
    assert "only the label 'red circle', so its probability is always 1" in caplog.text


def test_a_folder_is_its_videos_in_python_too(bike_folder, video_path, tmp_path):
    (tmp_path / "inner").mkdir()
    for name in ("b.mp4", "inner/a.mp4", "notes.txt"):
        shutil.copy(video_path if name.endswith("mp4") else __file__, tmp_path / name)
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.jpg")
    answers = kinoclip.classify(tmp_path, NAMES, model=bike_folder)
    assert [answer.video for answer in answers] == [str(tmp_path / name) for name in ("b.mp4", "inner/a.mp4")]
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds no videos"):
        kinoclip.classify(tmp_path / "empty", NAMES, model=bike_folder)
