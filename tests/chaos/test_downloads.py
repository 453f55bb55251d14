"""Servers of strangers: a download ends in time, takes little memory, and is a file or one clear error."""

import time
import tracemalloc

import pytest
from chaos.dripping import DRIPS, FLOODS, Server, random_answer
from chaos.limits import IS_FULL

from kinoclip.video import VideoDecodeError
from kinoclip.video.download import download

SECONDS = 2.0 if IS_FULL else 0.3


def fetch(address, *, max_bytes=1_000_000, seconds=SECONDS, is_flood=False):
    """Download and delete a file, and say how it went: also if it took too long, or a flood ended by its time alone."""
    begin = time.monotonic()
    try:
        path = download(address, max_bytes=max_bytes, timeout_seconds=seconds, allow_local=True)
        outcome = "frames" if path.stat().st_size <= max_bytes else "too large"
        path.unlink()
    except VideoDecodeError as error:
        is_unclear = "\n" in str(error) or len(str(error)) >= 1000 or (is_flood and "takes too long" in str(error))
        outcome = f"unclear: {error}" if is_unclear else "error"
    took = time.monotonic() - begin
    return outcome if took < seconds + 1 else f"{took:.1f} s instead of {seconds}"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("pause", [0.03, 0.2] if IS_FULL else [0.03])
def test_servers_that_drip(scheme, pause, hold):
    outcomes = {}
    for what, answer in DRIPS.items():
        with Server(answer, pause) as server:
            outcomes[f"{what} over {scheme}"] = fetch(server.address.replace("http", scheme))
            if scheme == "https" and not IS_FULL:
                break  # the handshake drips, whatever comes
    assert set(outcomes.values()) == {"error"}
    hold(outcomes)


def test_servers_that_flood(hold):
    outcomes = {}
    for what, answer in FLOODS.items():
        if what == "tiny chunks" and not IS_FULL:  # a second of parsing for each megabyte
            continue
        with Server(answer) as server:
            if IS_FULL:  # slow
                tracemalloc.start()
            outcomes[what] = fetch(server.address, seconds=10, is_flood=True)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            time.sleep(0.05)
            # what the buffers of the network take before the connection is closed
            if server.sent > 20_000_000 or peak > 20_000_000:
                outcomes[what] = f"{server.sent} bytes sent, {peak} bytes of memory"
    assert set(outcomes.values()) == {"error"}
    hold(outcomes)


def test_servers_that_answer_nonsense(hold):
    outcomes = {}
    for seed in range(500 if IS_FULL else 30):
        with Server(random_answer(seed)) as server:
            outcomes[f"seed {seed}"] = fetch(server.address)
    hold(outcomes)
