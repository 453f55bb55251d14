"""Videos of strangers, read in children with 30 s and 1.5 GB: frames, or one clear error, whatever is in them."""

import os
import random
import shutil
import time
from itertools import count

import pytest
from chaos.limits import IS_FULL
from chaos.mutations import declared, header_changes, resize_jpegs, seeded, truncations

SEED = 20261121


def some(attacks, number):
    """All attacks, or in the quick part a few of them."""
    attacks = list(attacks)
    return attacks if IS_FULL else random.Random(SEED).sample(attacks, min(number, len(attacks)))


def test_whole_videos_give_frames(contents, warden, tmp_path, hold):
    outcomes = warden.attack(tmp_path, contents.items())
    assert set(outcomes.values()) == {"frames"}
    hold(outcomes)


def test_videos_cut_at_every_box(contents, warden, tmp_path, hold):
    cuts = [
        (f"{name} {cut}", content)
        for name, whole in contents.items()
        for cut, content in truncations(whole, name.endswith(".mp4"))
    ]
    hold(warden.attack(tmp_path, some(cuts, 20)))


@pytest.mark.parametrize("name", ["h264.mp4", "hevc.mp4"])
def test_changed_headers(contents, warden, tmp_path, hold, name):
    changes = list(header_changes(contents[name]))
    hold(warden.attack(tmp_path, random.Random(SEED).sample(changes, 600 if IS_FULL else 10)))


def test_flipped_lost_doubled_and_spliced_pieces(contents, warden, tmp_path, hold):
    names = list(contents)
    attacks = []
    for seed in range(600 if IS_FULL else 40):
        name, other = names[seed % len(names)], random.Random(seed).choice(names)
        attacks.append((f"{name} with {other}, seed {seed}", seeded(contents[name], contents[other], seed)))
    hold(warden.attack(tmp_path, attacks))


def test_declared_sizes_counts_durations_and_streams(contents, warden, tmp_path, hold):
    attacks = list(declared(contents["h264.mp4"]))
    attacks += [
        ("JPEGs of 65535 x 65535", resize_jpegs(contents["mjpeg.avi"], 65535, 65535)),
        ("JPEGs of 65535 x 1", resize_jpegs(contents["mjpeg.avi"], 65535, 1)),
        ("JPEGs of 7000 x 7000", resize_jpegs(contents["mjpeg.avi"], 7000, 7000)),
    ]
    hold(warden.attack(tmp_path, some(attacks, 8)))


def test_stacked_damage_for_a_bounded_time(contents, warden, tmp_path, hold):
    """A failure names its seed: the same damage is made again by `damage(contents, seed)`."""
    outcomes, end = {}, time.monotonic() + (240 if IS_FULL else 1)
    for seed in count(SEED):
        if time.monotonic() > end:
            break
        outcomes |= warden.attack(tmp_path, [(f"seed {seed}", damage(contents, seed))])
    hold(outcomes)


def damage(contents, seed):
    """Damage a video again and again."""
    draws = random.Random(seed)
    content = contents[draws.choice(list(contents))]
    for _ in range(draws.randint(1, 6)):
        content = seeded(content, contents[draws.choice(list(contents))], draws.getrandbits(32)) or b"\0"
    return content


NAMES = ["two words.mp4", "two\nlines.mp4", "it's \"quoted\".mp4", "-i.mp4", "100%d%s.mp4", "видео 视频.mp4", "a:b|c;$(id).mp4"]  # fmt: skip

REFUSED = [
    *("/dev/zero", "/dev/urandom", "/dev/stdin", "/dev/video0", "/proc/self/mem", "/proc/kmsg", "x" * 300),
    *("file:///etc/passwd", "concat:/etc/passwd|/etc/hostname", "subfile,,start,0,end,9,,:/etc/passwd"),
    *("ftp://127.0.0.1/a.mp4", "rtsp://127.0.0.1/", "data:video/mp4;base64,AAAA"),
    *("http://127.0.0.1:1/a.mp4", "http://[::1]:1/a.mp4", "http://0x7f000001:1/", "http://2130706433:1/"),
    *("http://169.254.169.254/latest/", "http://localhost.:1/a"),
]


def test_names_links_devices_and_pipes(contents, warden, tmp_path, hold):
    outcomes = {}
    for name in NAMES:
        (tmp_path / name).write_bytes(contents["h264.mp4"])
        outcomes[repr(name)] = warden.read(tmp_path / name)
    (tmp_path / "link.mp4").symlink_to(tmp_path / NAMES[0])
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "none")
    (tmp_path / "secret.mp4").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe.mp4")
    outcomes["link"] = warden.read(tmp_path / "link.mp4")
    assert set(outcomes.values()) == {"frames"}
    refused = [tmp_path / f"{name}.mp4" for name in ("loop", "broken", "secret", "pipe")]
    said = {str(path): warden.read(path) for path in (*refused, *REFUSED)}
    assert set(said.values()) == {"error"}
    hold(outcomes | said)


@pytest.mark.skipif(not IS_FULL or shutil.which("strace") is None, reason="part of `make chaos`, and needs strace")
def test_a_damaged_video_makes_nothing_else_open(contents, tmp_path, opened_by, hold):
    attacks = [(f"seed {seed}", damage(contents, seed)) for seed in range(100)]
    attacks += [(kind, script.encode()) for kind, script in SCRIPTS.items()]
    others, outcomes = opened_by(lambda warden: warden.attack(tmp_path, attacks), tmp_path)
    assert others == []
    hold(outcomes)


SCRIPTS = {
    "HLS": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile:///etc/passwd\n#EXTINF:2,\nhttp://127.0.0.1:9/x\n",
    "concat": "ffconcat version 1.0\nfile '/etc/passwd'\n",
    "SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "DASH": '<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:9/</BaseURL></MPD>',
}
