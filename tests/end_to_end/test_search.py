"""`kinoclip classify --threshold`, `--features`, Parquet, `kinoclip embed` and `kinoclip search` as a person uses them."""

import csv
import json
import shutil
import sys

import pytest

from kinoclip.cli import main
from kinoclip.data.kinoshapes import kinoshapes_clips, write_video
from kinoclip.inference.parquet_records import read_parquet
from kinoclip.video_processing import RecognizerVideoProcessor

OBJECTS = ["red circle", "blue square", "green star"]
LABELS = ",".join(OBJECTS)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name, clip in zip(OBJECTS, kinoshapes_clips(3, seed=4, labels=OBJECTS), strict=True):
        write_video(folder / f"{name}.mp4", clip.frames, clip.spec.fps)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_a_parquet_holds_what_a_jsonl_does_and_says_when_it_is_complete(videos, tmp_path, capsys):
    for name in ("out.jsonl", "out.parquet"):
        assert run("classify", videos, "--labels", LABELS, "--output", tmp_path / name) == 0
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert list(read_parquet(tmp_path / "out.parquet")) == records
    before = (tmp_path / "out.parquet").read_bytes()
    capsys.readouterr()
    assert run("classify", videos, "--labels", LABELS, "--output", tmp_path / "out.parquet") == 0
    assert "4 of 4 are done already" in capsys.readouterr().err
    assert (tmp_path / "out.parquet").read_bytes() == before


def test_an_output_in_the_folder_itself_is_not_labelled(videos, tmp_path):
    folder = shutil.copytree(videos, tmp_path / "videos")
    output = folder / "labels.csv"
    for _ in range(2):
        assert run("classify", folder, "--labels", LABELS, "--output", output, "--features", folder / "features") == 0
    assert len(list(csv.DictReader(output.open(newline="")))) == 4


def test_a_background_takes_the_videos_that_fit_it_best(videos, tmp_path):
    output = tmp_path / "out.csv"
    options = ("--background", "green star", "--threshold", "0.5")
    assert run("classify", videos, "--labels", "red circle,blue square", *options, "--output", output) == 0
    rows = {row["video"]: row["label"] for row in csv.DictReader(output.open(newline=""))}
    assert rows[str(videos / "green star.mp4")] == "none of these"
    assert rows[str(videos / "red circle.mp4")] == "red circle"
    assert rows[str(videos / "broken.mp4")] == ""


def test_other_labels_need_no_decoding_where_features_are_kept(videos, tmp_path, monkeypatch):
    def label(labels, name, *options):
        assert run("classify", videos, "--labels", labels, "--output", tmp_path / name, *options) == 0
        return (tmp_path / name).read_bytes()

    features = ("--features", tmp_path / "features")
    plain = label("red ring,green star", "plain.jsonl")
    label(LABELS, "first.jsonl", *features)

    sample = RecognizerVideoProcessor.sample

    def refuse(self, video, **options):
        assert video.endswith("broken.mp4")
        return sample(self, video, **options)

    monkeypatch.setattr(RecognizerVideoProcessor, "sample", refuse)
    assert label("red ring,green star", "second.jsonl", *features) == plain


def test_a_query_finds_its_video(videos, tmp_path, capsys):
    index = tmp_path / "videos.parquet"
    assert run("embed", videos, "--output", index, "--pooling", "mean") == 0
    assert "3 videos, 64 numbers each, without 1 that cannot be read" in capsys.readouterr().err
    assert run("search", index, "a red circle", "a green star", "--top-k", 1) == 0
    query, found, *_ = capsys.readouterr().out.splitlines()
    assert query == "a red circle"
    assert found.endswith("red circle.mp4")
    assert run("search", index, "a blue square", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["query"] == "a blue square"
    assert answer["videos"][0]["video"] == str(videos / "blue square.mp4")
    assert len(answer["videos"]) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["classify", "{videos}", "--labels", "a", "--batch-size", "0"], "--batch-size 0"),
        (["classify", "{videos}", "--labels", "a", "--threshold", "1.5"], "--threshold 1.5"),
        (["classify", "{videos}", "--background", "a"], "give --labels too"),
        (["classify", "{videos}", "--labels", "a", "--background", "a"], "given twice"),
        (["classify", "{videos}", "--labels", "a", "--features", "{tmp}/f", "--explain"], "leave --features out"),
        (["classify", "{videos}", "--labels", "a", "--features", "{tmp}/f", "--spans"], "--spans goes without"),
        (["classify", "{videos}", "--labels", "a", "--output", "{tmp}/out.txt"], "Use .jsonl or .csv or .parquet"),
        (["embed", "{videos}", "--output", "{tmp}/v.npy"], "Use .safetensors or .parquet"),
        (["embed", "{videos}", "--output", "{tmp}/v.safetensors"], "--pooling mean"),
        (["embed", "{videos}/broken.mp4", "--output", "{tmp}/v.parquet", "--pooling", "mean"], "could be read"),
        (["search", "{tmp}/none.parquet", "a"], "no file"),
        (["search", "{videos}/broken.mp4", "a"], "Use .safetensors or .parquet"),
        (["search", "{tmp}/none.parquet", "a", "--top-k", "0"], "--top-k 0"),
    ],
)
def test_wrong_use_gives_one_line_and_code_2(arguments, said, videos, tmp_path, capsys):
    places = {"{videos}": str(videos), "{tmp}": str(tmp_path)}
    for place, path in places.items():
        arguments = [argument.replace(place, path) for argument in arguments]
    assert run(*arguments) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "colored shapes" not in line]
    assert said in lines[-1]
    assert not any("Traceback" in line for line in lines)


def test_a_features_folder_that_is_a_file_is_one_line(videos, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert run("classify", videos, "--labels", LABELS, "--features", tmp_path / "file") == 1
    assert "File exists" in capsys.readouterr().err.splitlines()[-1]


def test_without_pyarrow_the_error_says_what_to_install(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert run("classify", videos, "--labels", LABELS, "--output", tmp_path / "out.parquet") == 1
    assert "pip install 'kinoclip[train]'" in capsys.readouterr().err


def test_several_processes_need_an_output(videos, monkeypatch, capsys):
    monkeypatch.setattr("kinoclip.cli.classify.find_launch", lambda device: object())
    assert run("classify", videos, "--labels", LABELS) == 2
    assert "give --output" in capsys.readouterr().err
