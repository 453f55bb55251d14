"""Every recognizer's saved folder may be published as it is, and has a card."""

from kinoclip.hub.cards import model_card
from kinoclip.hub.checking import check_folder, list_files


def test_a_saved_folder_may_be_published_and_has_a_card(model, processor, tmp_path):
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert check_folder(tmp_path).model_type == model.config.model_type
    assert list_files(tmp_path)[1] == []  # nothing stays behind
    assert f"| model type | `{model.config.model_type}` |" in model_card(tmp_path).text
