"""The recipe in the record of a trained checkpoint."""

import json

import pytest

from kinoclip.evaluation.recorded_recipe import recorded_recipe


def test_the_recipe_of_a_folder_is_read(tmp_path):
    (tmp_path / "training.json").write_text(json.dumps({"recipe": {"name": "bike/t1"}}))

    assert recorded_recipe(tmp_path) == {"name": "bike/t1"}


@pytest.mark.parametrize("source", ["mini", "{folder}", "nobody/never-published"])
def test_a_model_without_a_record_has_no_recipe(source, tmp_path):
    assert recorded_recipe(source.replace("{folder}", str(tmp_path))) is None


def test_a_damaged_record_is_an_error(tmp_path):
    (tmp_path / "training.json").write_text('{"recipe": ')

    with pytest.raises(ValueError, match=r"The record of the training in .* could not be read"):
        recorded_recipe(tmp_path)
