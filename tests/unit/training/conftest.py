"""A small data set in memory, and runs on it."""

import pytest

from kinoclip.kinoshapes import kinoshapes_dataset
from kinoclip.training.build_model import build_model
from kinoclip.training.recipe import load_recipe


@pytest.fixture(scope="session")
def shapes():
    """12 clips of KinoShapes in six classes, with names."""
    dataset = kinoshapes_dataset(12, seed=2, label="shape", num_frames=8)
    return dataset.add_column("name", [f"clip-{number}.mp4" for number in range(12)])


@pytest.fixture(scope="session")
def recipe():
    """BIKE on the embedded CLIP: one epoch of three updates, nothing random."""
    return load_recipe("kinoshapes/bike").with_settings(
        {"training.epochs": 1, "training.batch_size": 4, "data.augmentation": "none"}
    )


@pytest.fixture(scope="session")
def processor(recipe):
    return build_model(recipe, ["a"])[1]


@pytest.fixture(scope="session")
def broken(shapes):
    """The same clips, of which the third cannot be read."""
    columns = shapes.select_columns(["video", "label", "name"])
    rows = [dict(row) for row in columns]
    rows[2]["video"] = {"bytes": b"no video", "path": None}
    return type(shapes).from_list(rows, features=columns.features)
