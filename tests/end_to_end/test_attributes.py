"""`kinoclip attributes`, and what trains and is measured with its files; lexicons and rows are tested in `tests/unit/inference`."""

import json
import shutil
from itertools import islice

import pytest
from clip_files import write_clips

from kinoclip.cli import main
from kinoclip.cli.options import write_records
from kinoclip.data.files import find_videos
from kinoclip.data.samples import VideoSamples
from kinoclip.inference.attributes import AttributeFinder
from kinoclip.inference.attributes_job import AttributesJob, name_videos, write_found
from kinoclip.kinoshapes import kinoshapes_clips
from kinoclip.text.attributes import read_attributes

LABELS = ["red circle", "blue square", "green star"]
FIND = ["--clip", "mini", "--lexicon", "kinoshapes", "--top-k", "3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of 12 clips for training and 6 for validation."""
    root, clips = tmp_path_factory.mktemp("data"), kinoshapes_clips(18, seed=4, labels=LABELS, num_frames=8)
    for split, count in (("train", 12), ("validation", 6)):
        write_clips(root / split, islice(clips, count), "{clip.label}/{number}.mp4")
    return root


def run(*arguments):
    return main([str(argument) for argument in arguments])


def test_attributes_are_found_trained_with_and_fused(data, tmp_path, monkeypatch, capsys):
    files = {split: tmp_path / f"{split}.json" for split in ("train", "validation")}
    for split, file in files.items():
        for output in (file, tmp_path / "both.json"):
            assert run("attributes", "--data", data, "--split", split, *FIND, "--output", output) == 0
    assert run("attributes", data, *FIND, "--output", tmp_path / "folder.json") == 0
    found = {split: read_attributes(file) for split, file in files.items()}
    for file in ("both.json", "folder.json"):
        assert found["train"] | found["validation"] == read_attributes(tmp_path / file)
    assert [len(found["train"]), len(found["validation"])] == [12, 6]
    assert all(name.split("/")[1] in phrases for name, phrases in found["validation"].items())

    decoded, read = [], VideoSamples._read
    monkeypatch.setattr(
        VideoSamples, "_read", lambda samples, row, index: decoded.append(row["name"]) or read(samples, row, index)
    )
    settings = [f"data.attributes={files['train']}", f"data.test_attributes={files['validation']}"]
    settings += ["training.batch_size=4", "training.epochs=2", "data.num_attributes=2"]
    settings += ["evaluation.validation_protocol=bike_fused"]
    chosen = [part for setting in settings for part in ("--set", setting)]
    output = tmp_path / "both"
    assert run("train", "finetune/attributes", "--data", data, "--start", "mini", "--output", output, *chosen) == 0
    assert sorted(decoded) == sorted(found["validation"])
    capsys.readouterr()
    measured = ["--data", data, "--split", "validation", "--attributes", files["validation"], "--json"]
    assert run("evaluate", output, *measured) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["protocol"]["name"], report["num_videos"]) == ("bike_fused", 6)
    assert report["settings"]["num_attributes"] == 2
    assert report["metrics"] == json.loads((output / "training.json").read_text())["history"][-1]["metrics"]


def test_several_processes_share_a_job_and_the_first_writes_the_file(data, tmp_path):
    finder = AttributeFinder.load("mini", "kinoshapes", 3)
    rows, records = name_videos({str(data): find_videos([str(data)]).videos}), tmp_path / "found.jsonl"
    job, written = AttributesJob(finder, rows.get, batch_size=4), []

    def write():
        written.append(write_found(tmp_path / "found.json", records))

    for process in (1, 0):
        plan = job.plan(list(rows), process, 2)
        assert write_records(job, plan, records, None, top_k=0, retry=None, then=write) == 0
    assert written == [(18, 0)]
    assert list(read_attributes(tmp_path / "found.json")) == list(rows)
    assert run("attributes", data, *FIND, "--batch-size", 4, "--output", tmp_path / "found.json") == 0


@pytest.fixture
def job(data, tmp_path, capsys):
    """A folder of three clips, of which one is broken, and its finished job."""
    shutil.copytree(data / "validation" / "red circle", tmp_path / "clips")
    (tmp_path / "clips" / "broken.mp4").write_text("no video")
    assert run("attributes", tmp_path / "clips", *FIND, "--output", tmp_path / "found.json") == 0
    return tmp_path


def test_an_unreadable_video_is_listed_and_not_in_the_file(job, capsys):
    assert "broken.mp4: this is text, not a video" in (said := capsys.readouterr().err)
    assert f"wrote {job}/found.json: 2 videos, without 1 that cannot be read, see {job}/found.jsonl" in said
    assert len(read_attributes(job / "found.json")) == 2
    records = [json.loads(line) for line in (job / "found.jsonl").read_text().splitlines()]
    assert [record["video"] for record in records if "error" in record] == ["broken.mp4"]


def test_the_same_command_continues_and_a_mended_video_joins_the_file(job, data, capsys):
    lines, before = (job / "found.jsonl").read_text().splitlines(keepends=True), (job / "found.json").read_bytes()
    (job / "found.jsonl").write_text(lines[0] + lines[1][:20])  # as a kill leaves it
    (job / "found.json").unlink()
    command = ["attributes", job / "clips", *FIND, "--output", job / "found.json"]
    assert run(*command) == 0
    assert "1 of 3 are done already" in capsys.readouterr().err
    assert (job / "found.json").read_bytes() == before
    shutil.copy(next((data / "train" / "red circle").iterdir()), job / "clips" / "broken.mp4")
    assert run(*command) == 2
    assert "have changed since they were labelled" in capsys.readouterr().err
    assert run(*command, "--retry", "changed") == 0
    assert "red circle" in read_attributes(job / "found.json")["broken.mp4"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["{clips}", *FIND, "--lexicon", "kinetics400", "--output", "{found}"], "made with other labels or phrases."),
        (["{clips}", *FIND, "--top-k", "2", "--output", "{found}"], "made with other options."),
        (["{clips}", *FIND, "--frames", "4", "--output", "{found}"], "made with other frames"),
        (["{clips}", *FIND, "--dtype", "bfloat16", "--output", "{found}"], "another backend, device, dtype or batch size."),
        (["{clips}", "--lexicon", "none", "--output", "{found}"], "The lexicon must be a file, or one of"),
    ],
)  # fmt: skip
def test_wrong_use_and_another_job_are_refused_in_one_line(job, options, said, capsys):
    before = {path: path.read_bytes() for path in job.glob("found*")}
    places = {"{clips}": str(job / "clips"), "{found}": str(job / "found.json"), "{found}l": str(job / "found.jsonl")}
    capsys.readouterr()
    assert run("attributes", *(places.get(option, option) for option in options)) in (1, 2)
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert {path: path.read_bytes() for path in job.glob("found*")} == before
