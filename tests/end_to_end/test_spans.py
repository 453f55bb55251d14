"""`kinoclip classify --spans` as a person uses it."""

import csv
import json
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from kinoclip.cli import main
from kinoclip.data.kinoshapes.benchmark import benchmark_dataset

LABELS = "red circle,red square,red star,green circle,green square,green star,blue circle,blue square,blue star"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two long videos with known spans, and one that is none."""
    folder = tmp_path_factory.mktemp("long")
    rows = benchmark_dataset("untrimmed", "test", clips_per_class=1).select(range(2))
    for number, row in enumerate(rows):
        (folder / f"{number}.mp4").write_bytes(row["video"]["bytes"])
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder, rows


def test_each_video_gets_a_record_of_its_spans(videos, tmp_path):
    folder, rows = videos
    output = tmp_path / "spans.jsonl"

    assert main(["classify", str(folder), "--labels", LABELS, "--spans", "--fps", "8", "--output", str(output)]) == 0

    records = [json.loads(line) for line in output.read_text().splitlines()]
    truth = [[span["label"] for span in row["spans"]] for row in rows]
    assert [[span["label"] for span in record["spans"]] for record in records[:2]] == truth
    assert set(records[0]["spans"][0]) == {"start", "end", "label", "probability"}
    assert records[2]["error"]["type"] == "VideoRefusedError"


def test_a_finished_job_is_not_done_again_and_another_refused(videos, tmp_path, capsys):
    folder, _ = videos
    command = ["classify", str(folder / "0.mp4"), "--labels", LABELS, "--spans", "--output", str(tmp_path / "s.csv")]
    main(command)

    assert main(command) == 0
    assert "1 of 1 are done already" in capsys.readouterr().err
    assert main([*command, "--threshold", "0.9"]) == 2
    [row] = csv.DictReader((tmp_path / "s.csv").open())
    assert json.loads(row["spans"])[0]["start"] >= 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--threshold", "2"], "--threshold 2.0"),
        (["--fps", "0"], "--fps is above 0"),
        (["--explain"], "--spans goes without --explain"),
    ],
)
def test_wrong_use_is_told(videos, options, message, capsys):
    assert main(["classify", str(videos[0]), "--labels", LABELS, "--spans", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_background_takes_part_and_gets_no_span(videos, capsys):
    folder, rows = videos
    name = rows[0]["spans"][0]["label"]
    others = ",".join(label for label in LABELS.split(",") if label != name)

    main(["classify", str(folder / "0.mp4"), "--labels", others, "--background", name, "--spans", "--fps", "8"])

    record = json.loads(capsys.readouterr().out)
    assert name not in [span["label"] for span in record["spans"]]
    assert len(record["spans"]) == len(rows[0]["spans"]) - 1


def write_long_video(path, minutes):
    """Write a video of 8 frames per second that changes its color every ten seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(8), options={"preset": "ultrafast", "g": "40"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        colors = [np.full((96, 128, 3), tone, np.uint8) for tone in ((200, 20, 20), (20, 20, 200))]
        for number in range(minutes * 480):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(colors[number // 80 % 2], format="rgb24")))
        container.mux(stream.encode(None))


def peak_memory(video):
    """Label a video in a process of its own: its record, and the most memory it held, in KiB."""
    code = (
        "import resource, sys; from kinoclip.cli import main; main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )
    command = ["classify", str(video), "--labels", "red,blue", "--spans", "--threshold", "0"]
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=True)
    return json.loads(done.stdout), int(done.stderr.split()[-1])


def test_half_an_hour_takes_no_more_memory_than_a_minute(tmp_path):
    write_long_video(tmp_path / "short.mp4", 1)
    write_long_video(tmp_path / "long.mp4", 30)

    _, short = peak_memory(tmp_path / "short.mp4")
    record, long = peak_memory(tmp_path / "long.mp4")

    assert long < 1.3 * short
    assert record["spans"][-1]["end"] == pytest.approx(1800, abs=1)
