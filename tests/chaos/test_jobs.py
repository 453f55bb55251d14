"""Jobs that are killed, interrupted, without disk space or without their videos can be continued to the same result."""

import errno
import random
import signal

import pytest
from chaos.job_world import KINDS, World
from chaos.jobs import Jobs
from chaos.limits import IS_FULL
from hub_server import TOKEN, serve

from kinoclip.hub.converting import convert
from kinoclip.kinoshapes import kinoshapes_clips, write_video

MOMENTS = 24 if IS_FULL else 2
OTHER_MOMENTS, SIZES = 8, 20
# SIGXFSZ kills in the middle of a write
CODES = {signal.SIGKILL: (-signal.SIGKILL, -signal.SIGXFSZ), signal.SIGTERM: (143, -15), signal.SIGINT: (130,)}
QUICK = tuple(kind for kind in KINDS if kind != "parquet")  # which is written as CSV is
full = pytest.mark.skipif(not IS_FULL, reason="part of `make chaos`")
READERS = ("jsonl", "csv", "parquet", "train", "evaluate")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("jobs")
    for number, clip in enumerate(kinoshapes_clips(9, seed=4, labels=["red circle", "blue square", "green star"])):
        place = folder / "disk" / clip.label / f"{number}.mp4"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_video(place, clip.frames[:8], clip.spec.fps)
    (folder / "videos").symlink_to(folder / "disk")
    for _ in convert("bike", "mini", folder / "bike", labels=["red circle", "blue square"]):
        pass
    with serve() as hub:
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(folder / "home"),
        }
        jobs = Jobs(folder, **environment)
        yield World(jobs, hub, folder / "videos", folder / "bike", folder)
        jobs.close()


def moments(kind, whole, number):
    """Draw when a job is disturbed: at a change of its folder, after some time, or in the middle of a write."""
    draws = random.Random(f"{kind} {whole.operations}")
    for count in range(number):
        hurt = {"signal": (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)[(count + len(kind)) % 3]}
        way = draws.randrange(6)
        if way == 0:
            yield {**hurt, "seconds": draws.uniform(0, whole.seconds)}
        elif way == 1 and hurt["signal"] == signal.SIGKILL:
            yield {**hurt, "size": int(10 ** draws.uniform(3.2, 6.5))}
        else:
            yield {**hurt, "operation": draws.randint(1, whole.operations)}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", KINDS if IS_FULL else QUICK)
def test_a_job_that_is_killed_or_interrupted_ends_as_one_that_is_not(world, kind, hold):
    whole = world.uninterrupted(kind)
    folder, outcomes = world.fresh(kind), {}
    for count, moment in enumerate(moments(kind, whole, MOMENTS)):
        ended = world.run(kind, folder, **moment)
        assert ended.code in (0, *CODES[moment["signal"]]), (moment, ended.errors)
        # "frames" is a job that ended before the signal
        outcomes[str((count, moment))] = "error" if ended.code else "frames"
        if ended.code == 0 or count % 3 == 2 or count == MOMENTS - 1:
            world.complete(kind, folder)
            folder = world.fresh(kind)
    hold(outcomes)


@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_that_becomes_read_only_is_one_line(world, kind, hold):
    whole = world.uninterrupted(kind)
    draws, folder, outcomes = random.Random(kind), world.fresh(kind), {}
    for _ in range(OTHER_MOMENTS):
        operation = draws.randint(1, whole.operations)
        ended = world.run(kind, folder, operation=operation, errno=errno.EROFS)
        assert ended.code in (0, 1), ended.errors
        assert ended.code == 0 or "Read-only file system" in ended.errors
        outcomes[str((len(outcomes), operation))] = "error" if ended.code else "frames"
    world.complete(kind, folder)
    hold(outcomes)


@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_is_full_is_one_line_and_with_room_the_job_goes_on(world, kind, hold):
    if not world.jobs.can_mount:
        pytest.skip("mounting a small disk needs more rights")
    whole = world.uninterrupted(kind)
    folder, outcomes = world.fresh(kind), {}
    room = sum(map(len, world.expected[kind][0].values()))
    world.jobs.mount("mount", "-t", "tmpfs", "-o", f"size={4 * room + 100_000}", "tmpfs", folder)
    world.fill(kind, folder)
    used = sum(path.stat().st_blocks * 512 for path in world.view(folder).rglob("*"))
    for step in range(SIZES):
        size = max(4096, used + room * step // SIZES)
        world.jobs.mount("mount", "-o", f"remount,size={size}", folder)
        ended = world.run(kind, folder)
        assert ended.code in (0, 1), ended.errors
        assert ended.code == 0 or "disk is full" in ended.errors or kind == "kinoshapes"
        outcomes[str(size)] = "error" if ended.code else "frames"
    world.jobs.mount("mount", "-o", f"remount,size={4 * room + 100_000}", folder)
    world.complete(kind, folder)
    world.jobs.unmount(folder)
    assert whole.code == 0
    hold(outcomes)


@full
@pytest.mark.parametrize("kind", READERS)
def test_videos_that_are_unplugged_are_told_and_read_when_they_are_back(world, kind, hold):
    world.uninterrupted(kind)
    draws, outcomes = random.Random(kind), {}
    for count in range(OTHER_MOMENTS):
        folder, disk = world.fresh(kind), world.videos.resolve()
        reading = draws.randint(1, 20 if kind == "train" else 10)
        ended = world.run(kind, folder, unplug=str(world.videos), reading=reading)
        if not world.videos.exists():
            world.videos.symlink_to(disk)
        assert ended.code in (0, 1, 2), ended.errors
        outcomes[str((count, reading))] = "error" if "No such file" in ended.errors else "frames"
        if kind == "train" and world.run(kind, folder).code == 0 and world.replaced(folder):
            continue  # it was trained on other videos, and lists them
        world.complete(kind, folder, *(["--retry"] if kind in ("jsonl", "csv", "parquet") else []))
    hold(outcomes)


@full
@pytest.mark.parametrize("kind", KINDS)
def test_a_second_job_on_an_output_is_refused_and_the_first_goes_on(world, kind):
    whole = world.uninterrupted(kind)
    folder = world.fresh(kind)
    # these two acquire their lock in the second half of few changes, and remove it in the last
    operation = whole.operations if kind in ("jsonl", "evaluate") else whole.operations // 2 + 1
    ended = world.run(kind, folder, operation=operation, signal=signal.SIGSTOP)
    code, errors = ended.second
    if kind == "publish":
        assert sorted((ended.code, code)) in ([0, 0], [0, 1])  # the Hub takes one of two commits
    else:
        assert ended.code == 0
        assert code in (1, 2)
        assert errors.splitlines()[-1].startswith("kinoclip: ") or kind == "kinoshapes"
    world.complete(kind, folder)
