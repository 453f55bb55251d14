"""`kinoclip live` as a person uses it."""

import io
import json
import signal
import subprocess
import sys
import time
from fractions import Fraction

import av
import pytest

from kinoclip.cli import main
from kinoclip.data.kinoshapes.benchmark import benchmark_dataset
from kinoclip.video import VideoReader

LABELS = "red circle,red square,red star,green circle,green square,green star,blue circle,blue square,blue star"
COMMAND = [sys.executable, "-m", "kinoclip", "live", "-", "--labels", LABELS, "--fps", "8"]


@pytest.fixture(scope="module")
def watched():
    """An untrimmed clip as a transport stream, and the labels that it shows in order."""
    row = benchmark_dataset("untrimmed", "test", clips_per_class=1)[0]
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


def test_a_pipe_gives_a_line_for_each_action(watched):
    content, truth = watched

    done = subprocess.run([*COMMAND, "--keep-all"], input=content, capture_output=True, timeout=120)

    assert done.returncode == 0, done.stderr
    spans = [json.loads(line) for line in done.stdout.decode().splitlines()]
    assert [span["label"] for span in spans] == [span["label"] for span in truth]
    for span, true in zip(spans, truth, strict=True):
        overlap = min(span["end"], true["end_seconds"]) - max(span["start"], true["start_seconds"])
        assert overlap > 0.5 * (true["end_seconds"] - true["start_seconds"])
    assert "0 frames lost" in done.stderr.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_the_action_that_goes_on(watched, tmp_path, number):
    content, truth = watched
    output = tmp_path / "spans.jsonl"
    with subprocess.Popen(
        [*COMMAND, "--keep-all", "--output", str(output)], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        # the last action goes on: the pipe is full of it and stays open
        process.stdin.write(content)
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not (output.exists() and len(output.read_text().splitlines()) >= len(truth) - 1):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(number)
        said = process.stderr.read().decode() if process.wait(timeout=30) == 0 else ""

    assert process.returncode == 0
    assert "Traceback" not in said
    spans = [json.loads(line) for line in output.read_text().splitlines()]
    assert [span["label"] for span in spans] == [span["label"] for span in truth]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "--labels", "a,b", "--threshold", "2"], "--threshold 2.0"),
        (["file:///etc/passwd", "--labels", "a,b"], "a live address starts with"),
        (["nothere.mp4", "--labels", "a,b"], "there is no such file"),
        (["nothere.mp4", "--labels", "a,b", "--fps", "0"], "frames_per_second is 0"),
    ],
)
def test_what_cannot_be_watched_is_told_in_one_line(arguments, message, capsys):
    assert main(["live", *arguments]) == 2

    assert message in capsys.readouterr().err.splitlines()[-1]
