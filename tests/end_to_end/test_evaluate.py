"""`kinoclip evaluate` as a person uses it."""

import json
import os
import subprocess
import sys

import pytest

from kinoclip.cli import main
from kinoclip.data.kinoshapes import kinoshapes_clips, write_video
from kinoclip.text.attributes import write_attributes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips in a folder of their color each, one of them broken."""
    root = tmp_path_factory.mktemp("videos")
    for index, clip in enumerate(kinoshapes_clips(12, split="test", label="color")):
        (root / clip.color).mkdir(exist_ok=True)
        write_video(root / clip.color / f"{index}.mp4", clip.frames)
    (root / "red" / "broken.mp4").write_bytes(b"no video")
    return root


def test_a_folder_is_measured_and_the_report_written(folder, tmp_path, capsys):
    code = main(["evaluate", "mini", "--data", str(folder), "--output", str(tmp_path / "report.json")])

    report = json.loads((tmp_path / "report.json").read_text())
    printed = capsys.readouterr()
    assert code == 0
    assert report["num_videos"] == 12
    assert list(report["failures"]) == ["red/broken.mp4"]
    assert report["metrics"]["top1"] > 0.9
    assert "12 videos, 1 unreadable" in printed.out
    assert "red/broken.mp4 is in no metric" in printed.err


def test_other_names_for_the_classes_can_be_given(folder, capsys):
    names = "blue shape,green shape,purple shape,red shape,white shape,yellow shape"  # in the order of the folders

    assert main(["evaluate", "mini", "--data", str(folder), "--labels", names, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["top1"] > 0.9


def test_too_few_names_are_an_error(folder, capsys):
    assert main(["evaluate", "mini", "--data", str(folder), "--labels", "red,blue"]) == 2
    assert "2 names for 6 classes" in capsys.readouterr().err


def test_frozen_features_are_probed(folder, capsys):
    arguments = ["evaluate", "mini", "--data", str(folder), "--probe", "knn", "--train", str(folder)]

    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["top1"] > 0.9


def test_a_probe_without_training_videos_is_wrong_use(folder, capsys):
    assert main(["evaluate", "mini", "--data", str(folder), "--probe", "knn"]) == 2
    assert "belong together" in capsys.readouterr().err


def test_attributes_need_a_model_that_reads_them(folder, tmp_path, capsys):
    write_attributes(tmp_path / "phrases.json", {"red/0.mp4": ["red"]})

    code = main(["evaluate", "mini", "--data", str(folder), "--attributes", str(tmp_path / "phrases.json")])

    assert code == 2
    assert "no attributes branch" in capsys.readouterr().err


def test_an_unknown_protocol_is_wrong_use(folder, capsys):
    assert main(["evaluate", "mini", "--data", str(folder), "--protocol", "five_crops"]) == 2
    assert "There is no protocol 'five_crops'" in capsys.readouterr().err


def test_two_processes_count_every_video_once(folder, tmp_path):
    report = tmp_path / "report.json"
    arguments = ["-m", "kinoclip.cli", "evaluate", "mini", "--data", str(folder), "--output", str(report)]
    launch = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29533"]

    subprocess.run([sys.executable, *launch, *arguments], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    found = json.loads(report.read_text())
    assert found["num_videos"] == 12
    assert len(found["failures"]) == 1
    assert sum(row["videos"] for row in found["per_class"]) == 12
