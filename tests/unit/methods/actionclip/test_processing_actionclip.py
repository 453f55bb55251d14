"""Labels under the templates of ActionCLIP."""

import pytest
import torch

from kinoclip import ActionClipConfig, ActionClipProcessor
from kinoclip.text.templates import ACTIONCLIP_TEMPLATES, check_template


@pytest.fixture
def processor(tiny_fields, tokenizer):
    return ActionClipProcessor.for_config(ActionClipConfig(**tiny_fields), tokenizer)


def test_every_label_comes_under_16_templates_in_the_official_order(processor):
    ids = processor(text=["archery", "circle"])["input_ids"]
    assert ids.shape == (16, 2, 77)
    assert processor.templates == list(ACTIONCLIP_TEMPLATES)
    assert (ACTIONCLIP_TEMPLATES[0], ACTIONCLIP_TEMPLATES[7]) == ("a photo of action {}", "{}")
    assert (ACTIONCLIP_TEMPLATES[11], ACTIONCLIP_TEMPLATES[15]) == (
        "Can you recognize the action of {}?",
        "The woman is {}",
    )


@pytest.mark.parametrize("template", ACTIONCLIP_TEMPLATES)
def test_a_template_has_one_place_for_the_label(template):
    check_template(template)


def test_frames_are_the_centers_of_segments(processor):
    # 4 segments of 4 frames: trunc(4 * i + (4 - 1) / 2) = 1, 5, 9, 13
    assert processor.video_processor.sample(torch.zeros(16, 32, 32, 3).byte().numpy()).indices == [1, 5, 9, 13]
