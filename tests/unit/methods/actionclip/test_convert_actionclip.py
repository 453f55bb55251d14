"""Official checkpoints of ActionCLIP: what fits, what does not, and what is said of it."""

import re
from functools import partial

import pytest
import torch
from transformers import AutoModel, AutoProcessor
from unit.methods.conftest import TRANSFORMER

from kinoclip import ActionClipModel, ActionClipProcessor
from kinoclip.hub.converting import convert
from kinoclip.methods.actionclip import convert_actionclip

# our names of a head's weights, and the official ones
OFFICIAL = {
    "transformer": TRANSFORMER,
    "transformer_cls": (
        ("class_embedding", "transformer.cls_token"),
        ("position_embedding.weight", "transformer.pos_embed"),
        ("encoder.layers.", "transformer.transformer_enc.layers."),
        ("attn.in_proj", "self_attn.in_proj"),
        ("attn.out_proj", "self_attn.out_proj"),
        ("mlp.c_fc", "linear1"),
        ("mlp.c_proj", "linear2"),
        ("ln_1", "norm1"),
        ("ln_2", "norm2"),
        ("layer_norm.", "transformer.transformer_enc.norm."),
    ),
    "lstm": (("lstm.", "lstm_visual."),),
    "conv1d": (("conv.", "shift."),),
    "mean": (),
}
TABLE = "frame_position_embeddings.weight"


@pytest.fixture
def build(make):
    return partial(make, ActionClipModel)


@pytest.fixture
def parts(split_officially):
    """The function that gives CLIP and head of a model in the official layout."""

    def parts(model):
        clip, head = split_officially(model, OFFICIAL[model.config.temporal_head])
        batched = ("cls_token", "pos_embed")
        official = {f"module.{name}": t[None] if name.endswith(batched) else t for name, t in head.items()}
        if model.config.temporal_head not in ("mean", "transformer"):  # made for every head, read by one
            official[f"module.{TABLE}"] = torch.ones(77, 32)
        return clip, official

    return parts


@pytest.mark.parametrize("head", OFFICIAL)
def test_the_head_is_read_off_the_checkpoint_and_every_weight_arrives_bit_for_bit(build, parts, write, head):
    model = build(temporal_head=head)
    converted = convert_actionclip(write(*parts(model)))
    assert converted.config.temporal_head == head
    torch.testing.assert_close(converted.state_dict(), model.state_dict(), atol=0, rtol=0)


def test_the_number_of_frames_of_a_class_token_transformer_is_read_off_its_positions(build, parts, write):
    checkpoint = write(*parts(build(temporal_head="transformer_cls", num_frames=5)))
    assert convert_actionclip(checkpoint).config.num_frames == 5


def test_layers_in_a_wrapper_are_those_of_a_shifted_tower(build, parts, write):
    model = build(temporal_head="mean", temporal_shift=True)
    clip, head = parts(model)
    wrapped = {re.sub(r"^(visual\.transformer\.resblocks\.\d)", r"\1.net", name): t for name, t in clip.items()}
    assert wrapped.keys() != clip.keys()
    converted = convert_actionclip(write(wrapped, head))
    assert converted.config.temporal_shift == "tsm"
    torch.testing.assert_close(converted.state_dict(), model.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda clip, head: head.pop(f"module.{TABLE}"), r"1 missing, first temporal_head\.position"),
        (lambda clip, head: head.update({"module.lstm": torch.ones(8)}), r"1 unexpected, first temporal_head\.lstm"),
    ],
)
def test_a_checkpoint_that_does_not_fit_one_to_one_is_refused_by_name(build, parts, write, change, message):
    clip, head = parts(build())
    change(clip, head)
    with pytest.raises(ValueError, match=rf"official\.pt do not fit ActionClipModel: {message}"):
        convert_actionclip(write(clip, head))


def test_a_plain_clip_is_sent_to_from_clip(build, parts, tmp_path):
    torch.save(parts(build())[0], tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=r"not a checkpoint of ActionClip.*use `ActionClipModel\.from_clip`"):
        convert_actionclip(tmp_path / "clip.pt")


def test_a_checkpoint_becomes_a_folder_with_16_templates_and_central_frames(parts, write, clip_folder, tmp_path):
    checkpoint = write(*parts(ActionClipModel.from_clip(clip_folder, temporal_head="mean")))
    list(convert("actionclip", checkpoint, tmp_path / "published", clip="mini", labels=["circle", "square"]))
    processor = AutoProcessor.from_pretrained(tmp_path / "published")
    assert isinstance(processor, ActionClipProcessor)
    assert len(processor.templates) == 16
    assert processor.video_processor.sampling == "segment_center"
    model = AutoModel.from_pretrained(tmp_path / "published").eval()
    assert model.config.candidate_shapes["embeds"][:2] == [16, 2]
    size = model.config.vision_config.image_size
    with torch.no_grad():
        logits = model(torch.rand(3, 8, 3, size, size)).logits
    torch.testing.assert_close(logits.exp().sum(-1), torch.ones(3))
