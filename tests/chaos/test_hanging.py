"""A decoder that hangs, and one that is slow beyond the limit: an error record each, and the job goes on and ends."""

import json
import os
import subprocess
import sys
import time

# what `kinoclip` runs, with a decoder that hangs on one video and is slow on another
SCRIPT = """
import sys, threading, time
from kinoclip.cli import main
from kinoclip.video._session import Session

decode = Session.decode

def hang(session, packet):
    if "stuck" in session.media.name:
        threading.Event().wait()
    if "slow" in session.media.name:
        time.sleep(0.4)
    return decode(session, packet)

Session.decode = hang
sys.exit(main(sys.argv[1:]))
"""


def test_a_decoder_that_hangs_costs_a_record_and_no_more(contents, tmp_path):
    names = [f"{name}.mp4" for name in ("a", "slow", "b", "stuck 1", "c", "stuck 2", "d")]
    for name in names:
        (tmp_path / name).write_bytes(contents["h264.mp4"])
    options = ["--model", "mini", "--labels", "red circle,blue square", "--output", "out.jsonl", "--timeout", "2"]
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "classify", *names, *options],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert time.monotonic() - begin < 60
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [record["video"] for record in records] == names
    errors = {record["video"]: record["error"] for record in records if "error" in record}
    assert list(errors) == ["slow.mp4", "stuck 1.mp4", "stuck 2.mp4"]
    assert {error["type"] for error in errors.values()} == {"VideoTimeoutError"}
    said = "reading takes longer than 2 s. Allow more (--timeout, or `time_limit` in Python), or re-encode it."
    assert {error["message"].partition(": ")[2] for error in errors.values()} == {said}
    assert "Traceback" not in done.stderr
