"""Pictures of strangers in a folder of frames, read in children with 30 s and 1.5 GB: frames, or one clear error."""

import random
import shutil

import pytest
from chaos.limits import IS_FULL
from chaos.pictures import _POSTSCRIPT, picture_attacks, whole_pictures
from PIL import Image

SEED = 20261129


@pytest.fixture
def folder(tmp_path):
    """A folder whose first frame is sound."""
    Image.new("RGB", (32, 24), "red").save(tmp_path / "frame_1.png")
    return tmp_path


def test_every_format_that_pillow_knows_is_among_the_attacks():
    Image.init()
    known = {name.split()[-1] if name.startswith("animated") else name.split()[0] for name in whole_pictures()}
    # formats that Pillow knows by a plug-in of others, which it does not have
    assert set(Image.ID) - known <= {"BUFR", "GRIB", "HDF5", "MPEG"}


def test_damaged_and_renamed_pictures_of_every_format(folder, warden, hold):
    attacks = list(picture_attacks(range(1500 if IS_FULL else 200)))
    hold(warden.attack_pictures(folder, attacks if IS_FULL else random.Random(SEED).sample(attacks, 80)))


@pytest.mark.skipif(not IS_FULL or shutil.which("strace") is None, reason="part of `make chaos`, and needs strace")
def test_a_damaged_picture_makes_nothing_else_open(folder, opened_by, hold):
    attacks = [("PostScript", ".png", _POSTSCRIPT), *picture_attacks(range(300))]
    others, outcomes = opened_by(lambda warden: warden.attack_pictures(folder, attacks), folder)
    assert others == []
    hold(outcomes)
