"""The jobs that tests disturb, and what must hold after each disturbance."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chaos.jobs import Ended, Jobs

LABELS = "red circle,blue square,green star"
KINDS = ("jsonl", "csv", "parquet", "train", "evaluate", "kinoshapes", "publish")
# files that are written atomically, by kind; a JSONL file grows by whole lines
_WHOLE = {
    "csv": "out.csv",
    "parquet": "out.parquet",
    "train": "out/model.safetensors",
    "evaluate": "report.json",
    "kinoshapes": "clips",
}
# the same state has another pickle after a restart
_PICKLED = ("state.pt", "manifest.json")


@dataclass
class World:
    """Jobs of every kind, each in a folder of its own.

    Args:
        jobs: starts them.
        hub: where they publish.
        videos: a link to a folder with a folder for each class.
        model: a folder to publish.
        folder: for everything that is written.
        expected: the files and the end of an undisturbed job, by kind.
    """

    jobs: Jobs
    hub: Any
    videos: Path
    model: Path
    folder: Path
    expected: dict[str, tuple[dict[str, bytes], Ended]] = field(default_factory=dict)
    number: int = 0

    def command(self, kind: str, folder: Path) -> list[object]:
        """Return the command of a job, which continues what is there."""
        if kind == "train":
            settings = ("epochs=2", "batch_size=3", "accumulation=1")
            options = [option for setting in settings for option in ("--set", f"training.{setting}")]
            resume = ["--resume"] if self.view(folder / "out" / "run.json").exists() else []
            data = ["--data", self.videos, "--start", "mini", "--validation", 0.3, "--save-every", 1]
            return ["train", "finetune", *data, "--output", folder / "out", *options, *resume]
        if kind == "evaluate":
            return ["evaluate", "mini", "--data", self.videos, "--batch-size", 2, "--output", folder / "report.json"]
        if kind == "kinoshapes":
            return ["kinoshapes", folder / "clips"]
        if kind == "publish":
            return ["publish", folder / "model", "org/model", "--license", "mit"]
        options = ["--model", "mini", "--labels", LABELS, "--batch-size", 2, "--explain"]
        return ["classify", self.videos, *options, "--output", folder / f"out.{kind}"]

    def fresh(self, kind: str) -> Path:
        """Create the folder of a new job."""
        self.number += 1
        folder = self.folder / f"{kind}-{self.number}"
        folder.mkdir()
        self.fill(kind, folder)
        return folder

    def fill(self, kind: str, folder: Path) -> None:
        """Write the input of a job."""
        self.hub.repos.clear()
        if kind == "publish":
            shutil.copytree(self.model, self.view(folder) / "model")

    def view(self, path: Path) -> Path:
        """Return the path by which this process sees a file of a job."""
        return self.jobs.view(path)

    def run(self, kind: str, folder: Path, *more: str, **hurt: Any) -> Ended:
        """Run or continue a job, and check what holds however it ends."""
        ended = self.jobs.run(*self.command(kind, folder), *more, folder=str(folder), **hurt)
        assert ended.left == 0, "processes are left"
        assert "Traceback" not in ended.errors, ended.errors
        assert "Exception ignored" not in ended.errors, ended.errors
        if ended.code > 0 and kind != "kinoshapes":
            said = [line for line in ended.errors.splitlines() if line.startswith("kinoclip: ")]
            assert said, ended.errors
            assert len(said[-1]) < 1000
        if kind in self.expected and "unplug" not in hurt:
            self._check_whole(kind, folder)
        return ended

    def uninterrupted(self, kind: str) -> Ended:
        """Run an undisturbed job, once."""
        if kind not in self.expected:
            folder = self.fresh(kind)
            ended = self.run(kind, folder)
            assert ended.code == 0, ended.errors
            self.expected[kind] = (self.state(kind, folder), ended)
        return self.expected[kind][1]

    def complete(self, kind: str, folder: Path, *more: str) -> None:
        """Continue a job to its end, and compare all files."""
        is_done = kind == "kinoshapes" and self.view(folder / "clips").exists()  # it is written once
        if is_done:  # a kill behind the last rename leaves the lock file, which a next job takes
            (self.view(folder) / ".clips.lock").unlink(missing_ok=True)
        ended = None if is_done else self.run(kind, folder, *more)
        assert ended is None or ended.code == 0, ended.errors
        self.compare(kind, folder)

    def compare(self, kind: str, folder: Path) -> None:
        """Compare all files with those of an undisturbed job."""
        expected, found = self.expected[kind][0], self.state(kind, folder)
        assert sorted(found) == sorted(expected)
        changed = [name for name in found if found[name] != expected[name]]
        assert changed == []

    def replaced(self, folder: Path) -> bool:
        """Check whether training replaced unreadable videos."""
        return bool(json.loads((self.view(folder) / "out" / "training.json").read_text())["failures"])

    def state(self, kind: str, folder: Path) -> dict[str, bytes]:
        """Return every file of a job, and what it published."""
        place = self.view(folder)
        paths = [path for path in sorted(place.rglob("*")) if path.is_file() and path.name not in _PICKLED]
        files = {str(path.relative_to(place)): path.read_bytes() for path in paths}
        for name in files:
            if name.endswith("training.json"):
                measured = dict.fromkeys(("seconds", "training_videos_per_second", "memory_mb"), 0)
                files[name] = json.dumps({**json.loads(files[name]), **measured}).encode()
            files[name] = files[name].replace(str(folder).encode(), b"FOLDER")
        for name, repo in self.hub.repos.items():
            files |= {f"{name} {number} {path}": content for number, commit in enumerate(repo.commits)
                      for path, content in commit[2].items()}  # fmt: skip
        return files

    def _check_whole(self, kind: str, folder: Path) -> None:
        """Check that no incomplete file has its final name, and that no record is duplicated."""
        expected, found = self.expected[kind][0], self.state(kind, folder)
        if kind == "jsonl":
            lines = found.get("out.jsonl", b"").rpartition(b"\n")[0]
            assert expected["out.jsonl"].startswith(lines)
        elif kind == "publish":
            assert {name: content for name, content in found.items() if " " in name}.items() <= expected.items()
        else:
            place = _WHOLE[kind]
            whole = {name for name in found if name == place or name.startswith(f"{place}/")}
            assert [name for name in sorted(whole) if found[name] != expected[name]] == []
