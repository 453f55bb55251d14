"""Whatever changes between two runs of a job, and whatever its videos are called: no record is taken for another one."""

import csv
import json
import os
import random
import re
import shutil

import pytest
import torch
from chaos.limits import IS_FULL

from kinoclip.cli import main
from kinoclip.hub.converting import convert
from kinoclip.inference.records import read_records
from kinoclip.kinoshapes import kinoshapes_clips, write_video

LABELS = "red circle,blue square,green star"
FORMATS = (".jsonl", ".csv", ".parquet")
NAMES = 120 if IS_FULL else 24
CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    shown = next(iter(kinoshapes_clips(1, seed=4, labels=["red circle"], num_frames=8)))
    return write_video(tmp_path_factory.mktemp("clips") / "clip.mp4", shown.frames)


def assert_harmless(printed):
    """Check that a terminal obeys nothing of what was printed, apart from the progress bar."""
    assert not CONTROL.search((printed.out + printed.err).replace("\r", "").replace("\x1b[A", ""))


@pytest.fixture
def job(tmp_path, clip):
    """The folder of a job: a model and two videos."""
    for _ in convert("bike", "mini", tmp_path / "model"):
        pass
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clip, tmp_path / "videos" / name)
    return tmp_path


def classify(videos, output, *options, model="mini", labels=LABELS):
    command = ["classify", videos, "--model", model, "--labels", labels, "--output", output, *options]
    return main(list(map(str, command)))


def run(job, output, *options):
    return classify(job / "videos", output, *options, model=job / "model")


def change_weights(job):
    from safetensors.torch import load_file, save_file

    path = job / "model" / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.dtype == torch.float32 and tensor.ndim == 2)
    tensors[name][0, 0] += 1e-3
    save_file(tensors, path, {"format": "pt"})


def change_json(name, key, value):
    def change(job):
        path = next(path for path in (job / "model").glob("*.json") if key in json.loads(path.read_text()).get(name, {}) or (
            not name and key in json.loads(path.read_text())))  # fmt: skip
        content = json.loads(path.read_text())
        (content[name] if name else content)[key] = value
        path.write_text(json.dumps(content))

    return change


def change_video(job):
    shown = next(iter(kinoshapes_clips(1, seed=9, labels=["blue square"], num_frames=8)))
    write_video(job / "videos" / "b.mp4", shown.frames)


def touch_video(job):
    os.utime(job / "videos" / "b.mp4", ns=(1, 1))


# name of the change, what the message names, how it is made, and further options of the second run
CHANGES = {
    "weights": ("another model or corpus", change_weights, ()),
    "mean of pixels": ("other frames", change_json("video_processor", "image_mean", [0.1, 0.1, 0.1]), ()),
    "template": ("other frames", change_json("", "templates", ["{}"]), ()),
    "frames": ("other frames", None, ("--frames", "4")),
    "clips": ("other frames", None, ("--clips", "2")),
    "dtype": ("another backend", None, ("--dtype", "bfloat16")),
    "batch size": ("another backend", None, ("--batch-size", "2")),
    "labels": ("other labels", None, ("--labels", "red circle,blue square")),
    "background": ("other labels", None, ("--background", "yellow ring")),
    "top k": ("other options", None, ("--top-k", "1")),
    "threshold": ("other options", None, ("--threshold", "0.9")),
    "explanation": ("other options", None, ("--explain",)),
    "spans": ("other options", None, ("--spans",)),
    "video": ("have changed since they were labelled", change_video, ()),
    "time of a video": ("have changed since they were labelled", touch_video, ()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_named_and_computed_again_on_request(name, job, capsys, hold):
    said, change, options = CHANGES[name]
    outcomes = {}
    suffixes = FORMATS if IS_FULL or name in ("weights", "video") else FORMATS[:1]
    outputs = [job / f"out{suffix}" for suffix in suffixes]
    for output in outputs:
        assert run(job, output) == 0
    if change is not None:
        change(job)
    for output in outputs:
        before = output.read_bytes()
        capsys.readouterr()
        assert run(job, output, *options) == 2
        message = capsys.readouterr().err.splitlines()[-1]
        assert said in message, message
        assert "--retry changed" in message
        assert output.read_bytes() == before
        assert run(job, output, *options, "--retry", "changed") == 0
        fresh = job / f"fresh{output.suffix}"
        assert run(job, fresh, *options) == 0
        assert read_records(output) == read_records(fresh)
        outcomes |= {f"{output.name} refused": "error", f"{output.name} computed": "frames"}
    hold(outcomes)


def test_a_touched_video_is_the_same_by_its_digest(job):
    assert run(job, job / "out.jsonl", "--digest") == 0
    before = (job / "out.jsonl").read_bytes()
    touch_video(job)
    assert run(job, job / "out.jsonl", "--digest") == 0
    assert (job / "out.jsonl").read_bytes() == before


@pytest.fixture
def named(tmp_path, clip):
    """A folder with links to one clip whose names are drawn from all bytes that a file name may have."""
    rng, folder = random.Random("names"), tmp_path / "videos" / "red circle"
    folder.mkdir(parents=True)
    allowed = [byte for byte in range(1, 256) if byte != ord("/")]
    chosen = [b"a\r.mp4", b"a\n.mp4", b"a\xff.mp4", "a\udcff.mp4".encode("utf-8", "surrogatepass"), b"=1+1.mp4", b"@x.mp4",
              b"\x1b[2J\x1b]0;x\x07.mp4", b" a .mp4", b'"a".mp4', b"a\\xff.mp4", b"a,b;c.mp4", "é\u2028\x85.mp4".encode()]  # fmt: skip
    drawn = [bytes(rng.choices(allowed, k=rng.randint(1, 40))) + b".mp4" for _ in range(NAMES - len(chosen))]
    for name in (*chosen, *drawn):
        if not name.startswith(b"."):
            os.link(clip, os.path.join(os.fsencode(folder), name))  # noqa: PTH118
    return folder.parent


@pytest.mark.parametrize("suffix", FORMATS)
def test_arbitrary_names_come_back_and_are_never_labelled_twice(suffix, named, tmp_path, capsys, hold):
    output = tmp_path / f"out{suffix}"
    assert classify(named, output, "--batch-size", "8") == 0
    videos = {str(path) for path in named.rglob("*.mp4")}
    assert {record["video"] for record in read_records(output)} == videos
    before = output.read_bytes()
    assert classify(named, output, "--batch-size", "8") == 0
    assert output.read_bytes() == before
    printed = capsys.readouterr()
    assert f"{len(videos)} of {len(videos)} are done already" in printed.err
    assert_harmless(printed)
    hold(dict.fromkeys(videos, "frames"))


def test_arbitrary_names_stand_in_tables_of_suggestions_and_reports(named, tmp_path, capsys, hold):
    videos = {str(path) for path in named.rglob("*.mp4")}
    table, report = tmp_path / "table.csv", tmp_path / "report.jsonl"
    for _ in range(2):
        assert main(["suggest", str(named), "--model", "mini", "--labels", LABELS, "--output", str(table)]) == 0
        assert main(["check", str(named), "--workers", "0", "--output", str(report)]) == 0
    rows = list(csv.reader(table.read_text(encoding="utf-8-sig").splitlines()))
    assert len(rows) == len(videos) + 1
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row)
    assert {json.loads(line)["video"] for line in report.read_text().splitlines()} == videos
    printed = capsys.readouterr()
    assert_harmless(printed)
    index = str(tmp_path / "v.safetensors")
    assert main(["embed", str(named), "--pooling", "mean", "--model", "mini", "--output", index]) == 0
    assert main(["search", index, "red circle", "--top-k", str(len(videos))]) == 0
    shown = capsys.readouterr()
    assert not CONTROL.search(shown.out)
    assert len(shown.out.splitlines()) == len(videos) + 1
    hold(dict.fromkeys(videos, "frames"))


def test_labels_of_arbitrary_bytes_are_refused_or_come_back(clip, tmp_path, capsys, hold):
    rng, outcomes = random.Random("labels"), {}
    for number in range(60 if IS_FULL else 8):
        label = os.fsdecode(bytes(rng.choices([b for b in range(1, 256) if b not in b",;\n"], k=rng.randint(1, 20))))
        for suffix in FORMATS:
            output = tmp_path / f"{number}{suffix}"
            code = classify(clip, output, labels=f"{label},red circle")
            assert code in (0, 2)
            if code == 0:
                [record] = read_records(output)
                assert {p["label"] for p in record["predictions"]} == {label.strip(), "red circle"}
            outcomes[f"{number}{suffix}"] = "error" if code else "frames"
        assert "Traceback" not in capsys.readouterr().err
    hold(outcomes)


def test_a_report_that_names_strange_files_is_json(clip, tmp_path, capsys):
    name = "bad\u2028\x85\x9b\\x41.mp4"
    for label, file in (("a", "a.mp4"), ("b", "b.mp4"), ("b", name)):
        (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, tmp_path / "data" / label / file)
    (tmp_path / "data" / "b" / name).write_text("no video")
    data, report = tmp_path / "data", tmp_path / "report.json"
    assert main(["evaluate", "mini", "--data", str(data), "--json", "--output", str(report)]) == 0
    printed = capsys.readouterr()
    assert list(json.loads(printed.out)["failures"]) == [f"b/{name}"]
    assert json.loads(report.read_text()) == json.loads(printed.out)
    assert_harmless(printed)
