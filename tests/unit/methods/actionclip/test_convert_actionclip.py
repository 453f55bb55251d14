"""Official checkpoints of ActionCLIP: what fits, what does not, and what is said of it."""

import re
from functools import partial

import pytest
import torch
from transformers import AutoModel, AutoProcessor

from kinoclip import ActionClipModel, ActionClipProcessor
from kinoclip.hub.converting import convert
from kinoclip.methods.actionclip import convert_actionclip

# our names of a head's weights, and the official ones
OFFICIAL = {
    "transformer": (
        ("position_embedding.", "frame_position_embeddings."),
        ("encoder.layers.", "transformer.resblocks."),
    ),
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
def parts(as_openai):
    """The function that gives CLIP and head of a model in the official layout."""

    def parts(model):
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        head = {
            name.removeprefix("temporal_head."): t for name, t in state.items() if name.startswith("temporal_head.")
        }
        clip = as_openai({name: t for name, t in state.items() if not name.startswith("temporal_head.")})
        official = {}
        for name, tensor in as_openai(head).items():
            for ours, theirs in OFFICIAL[model.config.temporal_head]:
                name = name.replace(ours, theirs)
            official[f"module.{name}"] = tensor[None] if name.endswith(("cls_token", "pos_embed")) else tensor
        if model.config.temporal_head not in ("mean", "transformer"):  # made for every head, read by one
            official[f"module.{TABLE}"] = torch.ones(77, 32)
        return clip, official

    return parts


@pytest.fixture
def write(tmp_path):
    def write(clip, head):
        path = tmp_path / "last_model.pt"
        torch.save({"epoch": 3, "model_state_dict": clip, "fusion_model_state_dict": head}, path)
        return path

    return write


@pytest.mark.parametrize("head", OFFICIAL)
def test_the_head_is_read_off_the_checkpoint_and_every_weight_arrives_bit_for_bit(build, parts, write, head):
    model = build(temporal_head=head)
    converted = convert_actionclip(write(*parts(model)))
    assert converted.config.temporal_head == head
    assert converted.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(converted.state_dict()[name], t) for name, t in model.state_dict().items())


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
    assert all(torch.equal(converted.state_dict()[name], t) for name, t in model.state_dict().items())


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
    with pytest.raises(ValueError, match=rf"last_model\.pt do not fit ActionClipModel: {message}"):
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
