from kinoclip import ActionClipConfig, ActionClipProcessor
from kinoclip.text.templates import ACTIONCLIP_TEMPLATES


def test_every_label_is_encoded_in_16_templates_in_the_official_order(tiny_fields, tokenizer):
    processor = ActionClipProcessor.for_config(ActionClipConfig(**tiny_fields), tokenizer)
    assert processor(text=["archery", "circle"])["input_ids"].shape == (16, 2, 77)
    assert processor.templates == list(ACTIONCLIP_TEMPLATES)
    assert (ACTIONCLIP_TEMPLATES[0], ACTIONCLIP_TEMPLATES[7]) == ("a photo of action {}", "{}")
    assert ACTIONCLIP_TEMPLATES[11] == "Can you recognize the action of {}?"
    assert ACTIONCLIP_TEMPLATES[15] == "The woman is {}"
