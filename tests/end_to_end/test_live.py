"""Spans: `kinoclip classify --spans` and `kinoclip live`."""

import io
import json
import signal
import subprocess
import time
from fractions import Fraction

import av
import pytest

from kinoclip.cli import main
from kinoclip.kinoshapes.benchmark import benchmark_dataset
from kinoclip.video import VideoReader

LABELS = "red circle,red square,red star,green circle,green square,green star,blue circle,blue square,blue star"
COMMAND = ["kinoclip", "live", "-", "--model", "mini", "--labels", LABELS, "--fps", "8", "--keep-all"]


@pytest.fixture(scope="module")
def rows():
    """Two untrimmed clips with known spans."""
    return benchmark_dataset("untrimmed", "test", clips_per_class=1).select(range(2))


@pytest.fixture(scope="module")
def watched(rows):
    """An untrimmed clip as a transport stream, and its spans."""
    row = rows[0]
    with VideoReader(row["video"]["bytes"]) as reader:
        frames = [frame.permute(1, 2, 0).numpy() for frame in reader.iterate(range(len(reader)))]
    buffer = io.BytesIO()
    with av.open(buffer, mode="w", format="mpegts") as out:
        video = out.add_stream("libx264", rate=Fraction(8), options={"g": "8", "tune": "zerolatency"})
        video.height, video.width, video.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            out.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(video.encode(None))
    return buffer.getvalue(), row["spans"]


def test_each_video_gets_a_record_of_its_spans_without_those_of_the_background(rows, tmp_path):
    (tmp_path / "videos").mkdir()
    for number, content in enumerate([*(row["video"]["bytes"] for row in rows), b"no video"]):
        (tmp_path / "videos" / f"{number}.mp4").write_bytes(content)
    truth = [[span["label"] for span in row["spans"]] for row in rows]
    background = truth[0][0]
    for hidden in ("", background):
        output = tmp_path / f"spans{hidden}.jsonl"
        labels = ",".join(label for label in LABELS.split(",") if label != hidden)
        options = ["--model", "mini", "--labels", labels, "--background", hidden, "--spans", "--fps", "8"]
        assert main(["classify", str(tmp_path / "videos"), *options, "--output", str(output)]) == 0
        records = [json.loads(line) for line in output.read_text().splitlines()]
        expected = [[label for label in labels if label != hidden] for labels in truth]
        assert [[span["label"] for span in record["spans"]] for record in records[:2]] == expected
        assert set(records[0]["spans"][0]) == {"start", "end", "label", "probability"}
        assert records[2]["error"]["type"] == "VideoRefusedError"


def test_a_pipe_gives_a_line_for_each_action(watched, programs):
    content, truth = watched
    done = subprocess.run(COMMAND, input=content, capture_output=True, timeout=120, env=programs, check=False)
    assert done.returncode == 0, done.stderr
    spans = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [span["label"] for span in spans] == [span["label"] for span in truth]
    for span, true in zip(spans, truth, strict=True):
        overlap = min(span["end"], true["end_seconds"]) - max(span["start"], true["start_seconds"])
        assert overlap > 0.5 * (true["end_seconds"] - true["start_seconds"])
    assert "0 frames lost" in done.stderr.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_and_the_current_action(watched, tmp_path, number, programs):
    content, truth = watched
    output = tmp_path / "spans.jsonl"
    with subprocess.Popen(
        [*COMMAND, "--output", str(output)], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=programs
    ) as process:
        # the last action does not end: the pipe stays open
        process.stdin.write(content)
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not (output.exists() and len(output.read_text().splitlines()) >= len(truth) - 1):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(number)
        assert process.wait(timeout=30) == 0
        assert "Traceback" not in process.stderr.read().decode()
    spans = [json.loads(line) for line in output.read_text().splitlines()]
    assert [span["label"] for span in spans] == [span["label"] for span in truth]


def test_the_address_of_a_local_file_is_refused(capsys):
    assert main(["live", "file:///etc/passwd", "--model", "mini", "--labels", "red circle,blue square"]) == 2
    assert "file:///etc/passwd" in capsys.readouterr().err.splitlines()[-1]
