"""A saved folder of every method may be published as it is, and has a card."""

import pytest

from kinoclip.hub.cards import model_card
from kinoclip.hub.publish import check_folder, list_files


@pytest.mark.parametrize(
    "kind", ["actionclip_branches", "alt", "bike_merged", "dstpr_chinese", "sllm_tam", "tam", "text4vis_joint"]
)
def test_a_saved_folder_may_be_published_and_has_a_card(fresh, processor, tmp_path):
    fresh.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert check_folder(tmp_path).model_type == fresh.config.model_type
    assert list_files(tmp_path)[1] == []  # nothing stays behind
    assert f"| model type | `{fresh.config.model_type}` |" in model_card(tmp_path).text
