"""The measured settings of a model on one machine, and the choice of the most accurate one within a budget."""

from __future__ import annotations

import os
import platform
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from kinoclip.modeling.names import EMBEDDED, Backend
from kinoclip.storage import encode_json
from kinoclip.text.parsing import load_json

_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}
_OF_JOB = ("min", "h")
_PACKAGES = ("kinoclip", "torch", "transformers", "av", "onnxruntime", "openvino")


@dataclass(frozen=True)
class Setting:
    """What changes the cost of a video."""

    frames: int  # per clip
    clips: int = 1
    rate: int | None = None  # of SLLM; None for the saved one
    merge_r: int | None = None  # of the vision tower; None for the saved one
    dtype: str = "auto"  # see `load_recognizer`
    backend: Backend = "torch"

    @property
    def fields(self) -> dict[str, int]:
        """The config fields that differ from the saved ones."""
        return {name: value for name in ("rate", "merge_r") if (value := getattr(self, name)) is not None}

    def __str__(self) -> str:
        """Write the setting as options of `kinoclip classify`."""
        options = {"frames": self.frames, "clips": self.clips, "dtype": self.dtype, "backend": self.backend}
        given = [f"--{name} {value}" for name, value in options.items() if value not in ("auto", "torch")]
        return " ".join([*given, *(f"--set {name}={value}" for name, value in self.fields.items())])


@dataclass(frozen=True)
class Point:
    """A measured setting."""

    setting: Setting
    accuracy: float  # a fraction from 0 to 1
    seconds: float  # per video of a job, decoding included
    job: str  # identity of model, processor and backend: the first three groups of that of records (`JOB_PARTS`)

    def __str__(self) -> str:
        return f"{self.accuracy:7.2%} {format_time(self.seconds):>8} per video  {self.setting}"


@dataclass(frozen=True)
class Curve:
    """The measured settings of a model on one machine."""

    model: str  # its name
    metric: str
    data: dict[str, Any]  # source, split, number and fingerprint of the videos
    environment: dict[str, Any]  # see `describe_environment`
    points: tuple[Point, ...]  # the first is the model as it is saved

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `to_json` wrote; raise a `ValueError` if the file is something else."""
        try:
            content = load_json(Path(path).read_text(encoding="utf-8"))
            points = [Point(**{**point, "setting": Setting(**point["setting"])}) for point in content.pop("points")]
            curve = cls(**content, points=tuple(points))
            is_whole = {"source", "videos"} <= curve.data.keys() and "threads" in curve.environment
            if not (is_whole and points and all(p.seconds > 0 and p.accuracy >= 0 and p.job.strip() for p in points)):
                raise ValueError("it is damaged")
            return curve
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                f"{path} does not hold measured settings: {error}. Remove it and measure again."
            ) from error

    def to_json(self) -> str:
        """Return all fields as JSON."""
        return encode_json(asdict(self), indent=1)

    @property
    def front(self) -> list[Point]:
        """The settings that no other one beats in accuracy and time (Pareto), fastest first."""
        kept: list[Point] = []
        for point in sorted(self.points, key=lambda point: (point.seconds, -point.accuracy)):
            if not kept or point.accuracy > kept[-1].accuracy:
                kept.append(point)
        return kept

    def choose(self, seconds: float) -> Point:
        """Return the most accurate setting within a time per video, the fastest of equals.

        Raises:
            ValueError: all settings take longer; the message names the fastest.
        """
        within = [point for point in self.front if point.seconds <= seconds]
        if not within:
            fastest = self.front[0]
            raise ValueError(
                f"The budget must be at least {format_time(fastest.seconds)} per video, which the fastest measured setting takes "
                f"({fastest.setting}, {self.metric} {fastest.accuracy:.2%}), got {format_time(seconds)}."
            )
        return within[-1]


@dataclass(frozen=True)
class Budget:
    """A limit on the cost: time per video ("50ms", "2s"), time for a whole job ("20min", "3h") or share of the full cost ("0.25")."""

    number: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a budget; raise a `ValueError` if it is none."""
        found = re.fullmatch(rf"(\d+(?:\.\d*)?|\.\d+)\s*({'|'.join(_SECONDS)})?", text.strip())
        number, unit = (0.0, "") if found is None else (float(found[1]), found[2] or "")
        if not number or (not unit and number > 1):
            raise ValueError(
                "budget must be a time per video such as 50ms or 2s, a time for the whole job such as 20min or 3h, or a share of "
                f"the full cost such as 0.25, got {text!r}."
            )
        return cls(number, unit)

    @property
    def is_of_job(self) -> bool:
        """Whether it is for all videos together."""
        return self.unit in _OF_JOB

    def seconds_per_video(self, full: float, videos: int) -> float:
        """Return the time for one of `videos` videos that are left; `full` is that of the model as it is saved."""
        if not self.unit:
            return self.number * full
        return self.number * _SECONDS[self.unit] / (max(1, videos) if self.is_of_job else 1)


def curve_path(model: str) -> Path:
    """Return the file of the curve: beside the folder of a local model, otherwise in a folder of `HF_HOME`."""
    if model != EMBEDDED and Path(model).is_dir():
        folder = Path(model).resolve()
        return folder.with_name(f"{folder.name}.curve.json")
    from huggingface_hub import constants

    return Path(constants.HF_HOME) / "kinoclip" / "curves" / f"{model.replace('/', '--')}.curve.json"


def read_curve(model: str) -> Curve:
    """Read the curve of a model.

    Raises:
        FileNotFoundError: none was measured.
        ValueError: it was measured on another machine or with other versions.
    """
    path, advice = curve_path(model), f"Measure it: kinoclip profile {model} --data VALIDATION --measure"
    if not path.is_file():
        raise FileNotFoundError(f"The cost of {model} was not measured on this machine. {advice}")
    curve, now = Curve.load(path), describe_environment()
    changed = [
        f"{name} {value}, this is {now.get(name)}"
        for name, value in curve.environment.items()
        if now.get(name) != value
    ]
    if changed:
        raise ValueError(f"{path} was measured with {'; '.join(changed)}. {advice}")
    return curve


def describe_environment() -> dict[str, Any]:
    """Return what the time of a model depends on besides itself: processor, cores, threads of torch, GPU and versions."""
    import torch

    versions = {}
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    gpu = {"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {}
    threads = torch.get_num_threads()
    return {"processor": processor_name(), "cores": os.cpu_count(), "threads": threads, **gpu, **versions}


def processor_name() -> str:
    """Return the name of the processor and the instructions that torch uses, such as AVX512."""
    import torch

    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else []
    named = [line.split(": ")[1] for line in lines if line.startswith("model name")]
    return f"{named[0] if named else platform.machine()}, {torch.backends.cpu.get_cpu_capability()}"


def format_time(seconds: float) -> str:
    """Format a time in the unit that suits it, three digits long."""
    unit = next((unit for unit in reversed(_SECONDS) if seconds >= _SECONDS[unit]), "ms")
    return f"{seconds / _SECONDS[unit]:.3g} {unit}"
