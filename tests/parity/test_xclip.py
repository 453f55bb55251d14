"""X-CLIP against the model of Transformers with the same weights; its video-specific prompts are part of the texts only."""

import pytest
import torch
from transformers import XCLIPConfig, XCLIPModel

from kinoclip import XclipConfig, XclipModel

SIZES = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 1}
VISION = {**SIZES, "image_size": 32, "patch_size": 16, "num_frames": 4}
MIT = {"mit_hidden_size": 64, "mit_intermediate_size": 256, "mit_num_hidden_layers": 1, "mit_num_attention_heads": 1}


@pytest.fixture(scope="module")
def models():
    """Ours, and that of Transformers."""
    torch.manual_seed(0)
    theirs = XCLIPModel(
        XCLIPConfig(text_config=SIZES, vision_config={**VISION, **MIT, "drop_path_rate": 0.0}, projection_dim=64)
    ).eval()
    for parameter in theirs.parameters():  # zeros and ones hide mistakes
        torch.nn.init.normal_(parameter, std=0.1)
    config = XclipConfig(text_config=SIZES, vision_config=VISION, projection_dim=64, num_frames=4)
    ours = XclipModel(config).eval()
    state = {
        name.replace("mit.", "temporal_head.").replace("pre_layernorm", "pre_layrnorm"): t
        for name, t in theirs.state_dict().items()
    }
    state["temporal_head.position_embedding.weight"] = state.pop("temporal_head.position_embedding")[0]
    report = ours.load_state_dict(state, strict=False)
    assert not report.missing_keys
    assert all(name.startswith("prompts_") for name in report.unexpected_keys)
    return ours, theirs


def test_videos_and_texts_are_encoded_as_by_transformers(models):
    ours, theirs = models
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 4, 3, 32, 32, generator=generator)
    ids = torch.randint(3, 40, (3, 10), generator=generator)
    ids[:, 7] = 49407  # the end of a text
    with torch.no_grad():
        output = ours(pixels, ids[None])
        video = theirs.get_video_features(pixels).pooler_output
        text = theirs.get_text_features(ids).pooler_output
    torch.testing.assert_close(output.video_embeds, video, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(output.text.embeds[0], text, atol=1e-5, rtol=1e-5)
    cosines = torch.nn.functional.cosine_similarity(video[:, None], text[None], dim=-1)
    torch.testing.assert_close(output.votes["video"], cosines, atol=1e-5, rtol=1e-5)
