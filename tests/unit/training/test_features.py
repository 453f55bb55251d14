import pytest

from kinoclip.training.loop import train

FROZEN = {"training.freeze": "towers", "training.cache_features": True}


def test_kept_features_train_as_pixels_do_and_are_computed_once(shapes, recipe, tmp_path, monkeypatch):
    frozen = recipe.with_settings({"training.freeze": "towers"})
    cached = recipe.with_settings(FROZEN)
    plain = train(frozen, shapes, tmp_path / "pixels")
    kept = train(cached, shapes, tmp_path / "features", features=tmp_path / "kept")
    assert kept.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], abs=1e-6)
    assert len(list((tmp_path / "kept").iterdir())) == len(shapes)
    monkeypatch.setattr("kinoclip.BikeModel.encode_frames", lambda self, pixels: 1 / 0)
    again = train(cached, shapes, tmp_path / "again", features=tmp_path / "kept")
    assert again.history == kept.history


def test_features_of_other_frames_are_others(shapes, recipe, tmp_path):
    cached = recipe.with_settings(FROZEN)
    train(cached, shapes, tmp_path / "four", features=tmp_path / "kept")
    train(cached.with_settings({"model.num_frames": 2}), shapes, tmp_path / "two", features=tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 2 * len(shapes)


def test_features_of_random_pixels_are_refused(shapes, recipe, tmp_path):
    settings = FROZEN | {"data.augmentation": "center_crop"}
    with pytest.raises(ValueError, match="only where each epoch sees the same pixels"):
        train(recipe.with_settings(settings), shapes, tmp_path / "run")


def test_features_of_an_encoder_that_is_trained_are_refused(shapes, recipe, tmp_path):
    with pytest.raises(ValueError, match="The encoder of frames is trained"):
        train(recipe.with_settings({"training.cache_features": True}), shapes, tmp_path / "run")
