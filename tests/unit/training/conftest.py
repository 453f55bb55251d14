"""A small data set in memory, and runs on it."""

import pytest

from kinoclip.data.kinoshapes import kinoshapes_dataset
from kinoclip.training.recipe import load_recipe


@pytest.fixture(scope="session")
def shapes():
    """12 clips of KinoShapes in six classes, with names."""
    dataset = kinoshapes_dataset(12, seed=2, label="shape", num_frames=8)
    return dataset.add_column("name", [f"clip-{number}.mp4" for number in range(12)])


@pytest.fixture
def recipe():
    """BIKE on the embedded CLIP: one epoch of three updates, nothing random."""
    return load_recipe("kinoshapes/bike").with_settings(
        {"training.epochs": 1, "training.batch_size": 4, "data.augmentation": "none"}
    )
