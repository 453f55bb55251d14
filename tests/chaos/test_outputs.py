"""Whatever lies where a command writes: a foreign byte never changes, and refusal is one line."""

import json
import random
from pathlib import Path

import pytest
from chaos.limits import IS_FULL

from kinoclip.cli import main
from kinoclip.kinoshapes import kinoshapes_clips, write_video

ROUNDS = 40 if IS_FULL else 4
LABELS = "red circle,blue square,green star"
CLASSIFY = ["classify", "{videos}", "--model", "mini", "--labels", LABELS]
# `{out}` is where the command writes; `suffix` of that; hidden files beside it, which the command may use too
COMMANDS = {
    "jsonl": ([*CLASSIFY, "--output", "{out}"], ".jsonl"),
    "csv": ([*CLASSIFY, "--output", "{out}"], ".csv"),
    "parquet": ([*CLASSIFY, "--output", "{out}"], ".parquet"),
    "changed": ([*CLASSIFY, "--retry", "changed", "--output", "{out}"], ".jsonl"),
    "spans": ([*CLASSIFY, "--spans", "--output", "{out}"], ".csv"),
    "pictures": ([*CLASSIFY, "--pictures", "{out}"], ""),
    "features": ([*CLASSIFY, "--features", "{out}"], ""),
    "suggest": (["suggest", "{videos}", "--model", "mini", "--labels", LABELS, "--output", "{out}"], ".csv"),
    "translate": (["translate", "hmdb51", "--output", "{out}"], ".json"),
    "embed": (["embed", "{videos}", "--pooling", "mean", "--model", "mini", "--output", "{out}"], ".safetensors"),
    "attributes": (
        ["attributes", "{videos}", "--clip", "mini", "--lexicon", "kinoshapes", "--output", "{out}"],
        ".json",
    ),
    "check": (["check", "{videos}", "--workers", "0", "--output", "{out}"], ".jsonl"),
    "evaluate": (["evaluate", "mini", "--data", "{videos}", "--output", "{out}"], ".json"),
    "live": (["live", "{video}", "--model", "mini", "--labels", LABELS, "--output", "{out}"], ".jsonl"),
    "train": (["train", "finetune", "--data", "{videos}", "--start", "mini", "--output", "{out}"], ""),
    "convert": (["convert", "bike", "mini", "--output", "{out}"], ""),
    "export": (["export", "mini", "--output", "{out}"], ""),
    "demo": (["demo", "--videos", "1", "--output", "{out}"], ""),
}
SLOW = ("train", "export")  # attacked only where they must refuse, which is before they work


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for clip in kinoshapes_clips(2, seed=4, labels=["red circle", "blue square"], num_frames=8):
        (folder / clip.label).mkdir()
        write_video(folder / clip.label / "a.mp4", clip.frames, clip.spec.fps)
    return folder


def draw_content(rng: random.Random) -> bytes:
    """Draw bytes as people have them in files: notes, tables, JSON, of other programs, with and without line ends."""
    words = ["video", "label", "a.mp4", "notes", '"', "kinoclip", "job", "0123456789ab", "é", "\0", "{", "\r"]
    word = rng.choice(words)
    shapes = [
        b"notes without a line end",
        f"{word},{word}\n{word}".encode(),
        b"video,label\na.mp4,jump\n",
        b'"video,label\na.mp4,jump\n',
        b"video;label;my notes\na.mp4;jump;dark\n",
        json.dumps({"video": "a.mp4", word: 1}).encode(),
        json.dumps({"video": "a.mp4", "label": "jump", "job": word}).encode() + b"\n",
        b'{"video": "a',
        json.dumps({"start": 0, "end": 1, "label": "jump"}).encode() + b"\n",
        json.dumps({"protocol": {}, "metrics": {}}).encode(),
        b"\x89PNG\r\n\x1a\n" + rng.randbytes(40),
        b"PAR1" + rng.randbytes(20) + b"PAR1",
        (16).to_bytes(8, "little") + b'{"a":1}         ',
        b"<!doctype html><p>kinoclip</p>",
        rng.randbytes(rng.randint(1, 200)),
        rng.randbytes(rng.randint(1, 200)) + b"\n",
        word.encode() * rng.randint(1, 50),
    ]
    return rng.choice(shapes)


def plant(rng: random.Random, out: Path, named: list[str], must_refuse: bool) -> None:
    """Write foreign files where a command writes: the output itself, files in it, and hidden files beside it."""
    where = rng.randrange(2 if must_refuse else 4)
    if where == 0:
        out.write_bytes(draw_content(rng))
    elif where == 1 and not out.suffix:
        names = [*named, "run.json", "config.json", ".lock", "checkpoints", "notes.txt"]
        out.mkdir()
        for name in rng.sample(names, min(3, len(names))):
            (out / name).write_bytes(draw_content(rng))
    else:
        hidden = [f".{out.name}.{end}" for end in ("lock", "partial", "part-00000.jsonl", "part-0123456789ab.jsonl")]
        for name in rng.sample([*hidden, f".kinoclip-{rng.randbytes(4).hex()}-mine.partial"], 3):
            out.with_name(name).write_bytes(draw_content(rng))


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", COMMANDS)
def test_a_foreign_byte_never_changes(kind, videos, tmp_path, capsys, hold):
    command, suffix = COMMANDS[kind]
    rng, outcomes, named = random.Random(f"outputs {kind}"), {}, []
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        folder.mkdir()
        out = folder / f"out{suffix}"
        if number == 0 and kind not in SLOW:  # an honest run, whose names are those to plant at
            assert run(command, videos, out) in (0, 1)
            named = [path.name for path in out.iterdir()] if out.is_dir() else []
            outcomes["honest"] = "frames"
            again = run(command, videos, out)
            assert again == 2 if kind == "convert" else again in (0, 1)
            continue
        plant(rng, out, named, kind in SLOW)
        before = read_all(folder)
        code = run(command, videos, out)
        printed = capsys.readouterr().err
        after = read_all(folder)
        changed = [name for name, content in before.items() if after.get(name) != content]
        is_clear = code in (0, 1, 2) and "Traceback" not in printed and (code == 0 or "kinoclip: " in printed)
        outcomes[f"{number} {sorted(before)}"] = "lost" if changed or not is_clear else "error" if code else "frames"
        assert not changed, (sorted(before), before[changed[0]], after.get(changed[0]))
    hold(outcomes)


def run(command, videos, out):
    places = {"{videos}": str(videos), "{out}": str(out), "{video}": str(next(videos.rglob("*.mp4")))}
    return main([places.get(argument, argument) for argument in command])
