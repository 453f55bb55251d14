"""Reports to put on cards."""

from pathlib import Path

import pytest

from kinoclip.evaluation.report import Report


@pytest.fixture(scope="session")
def write_report():
    """The function that writes a report of eight videos."""
    return _write_report


def _write_report(path: Path, method: str = "kinoclip_bike") -> Path:
    coverage = {"dataset": "ucf101", "split": "test", "found": 8, "fingerprint": "0123456789abcdef"}
    report = Report(
        model="my-model",
        method=method,
        dataset="ucf101",
        protocol={"name": "single_view", "title": "one clip, center crop"},
        metrics={"top1": 0.75},
        intervals={"top1": (0.4093, 0.9285)},
        per_class=[
            {"label": "diving", "videos": 4, "accuracy": 1.0},
            {"label": "archery", "videos": 4, "accuracy": 0.5},
        ],
        num_videos=8,
        failures={"broken.mp4": "no video"},
        settings={
            "coverage": coverage,
            "num_frames": 4,
            "sampling": "segment_start",
            "versions": {"kinoclip": "0.1.0"},
        },
    )
    return report.save(path)
