"""Official checkpoints of Text4Vis: what fits, what does not, and what is said of it."""

import pytest
import torch
from torch import nn
from transformers import CLIPConfig, CLIPModel

from kinoclip import Text4VisModel
from kinoclip.methods.text4vis import convert_text4vis
from kinoclip.methods.text4vis.resnet import resnet_to_transformers

TEXT = ("text_model.", "text_projection.")


@pytest.fixture
def source(make):
    """What an official checkpoint was made from."""
    return make(Text4VisModel)


@pytest.fixture
def official(split_officially, source, text_tower):
    """The checkpoint of `train.py`: a vision tower, a head, the scale."""
    clip, head = split_officially(source)
    vision = {name: tensor for name, tensor in clip.items() if name not in text_tower}
    return vision | {f"fusion_model.{name}": tensor for name, tensor in head.items()}


@pytest.fixture
def without_head(official):
    return {name: tensor for name, tensor in official.items() if not name.startswith("fusion_model.")}


@pytest.fixture
def text_tower(as_openai, source):
    return as_openai({name: t for name, t in source.state_dict().items() if name.startswith(TEXT)})


@pytest.fixture
def clip_file(text_tower, tmp_path):
    torch.save(text_tower, tmp_path / "clip.pt")
    return tmp_path / "clip.pt"


@pytest.fixture
def original_clip(source, tiny_fields, tokenizer, tmp_path):
    """A CLIP folder with the text tower and another vision tower."""
    clip = CLIPModel(
        CLIPConfig(**{name: tiny_fields[name] for name in ("text_config", "vision_config", "projection_dim")})
    )
    clip.load_state_dict({n: t for n, t in source.state_dict().items() if n.startswith(TEXT)}, strict=False)
    clip.save_pretrained(tmp_path / "clip")
    tokenizer.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


def _check_weights(found, expected):
    torch.testing.assert_close(found.state_dict(), expected, atol=0, rtol=0)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_with_a_clip_file_a_checkpoint_is_converted_bit_for_bit(write, official, clip_file, source, prefix):
    path = write({prefix + name: tensor for name, tensor in official.items()})
    converted = convert_text4vis(path, clip_file)
    assert (converted.config.temporal_layers, converted.config.loss) == (2, "cross_entropy")
    _check_weights(converted, source.state_dict())


def test_a_clip_folder_supplies_the_text_tower_and_not_the_vision_tower(write, official, original_clip, source):
    _check_weights(convert_text4vis(write(official), original_clip), source.state_dict())


def test_without_a_clip_there_is_no_text_tower(write, without_head, source):
    converted = convert_text4vis(write(without_head))
    assert not converted.config.text_tower
    kept = {n: t for n, t in source.state_dict().items() if not n.startswith((*TEXT, "temporal_head."))}
    _check_weights(converted, kept)


def test_a_contrastive_checkpoint_brings_its_own_text_tower(write, official, text_tower, source, clip_file):
    head = {n.removeprefix("fusion_model."): t for n, t in official.items() if n.startswith("fusion_model.")}
    clip = {n: t for n, t in official.items() if not n.startswith("fusion_model.")} | text_tower
    converted = convert_text4vis(write(clip, head), clip_file)
    assert converted.config.loss == "symmetric_kl"
    _check_weights(converted, source.state_dict())


def test_weights_inside_of_what_shifts_show_tsm(write, without_head):
    renamed = {
        n.replace("resblocks.0.", "resblocks.0.net.").replace("resblocks.1.", "resblocks.1.net."): t
        for n, t in without_head.items()
    }
    assert convert_text4vis(write(renamed)).config.temporal_shift == "tsm"


def test_weights_of_a_convolution_over_tokens_show_it(write, without_head):
    name = "visual.transformer.resblocks.{}.control_point.conv.weight"
    added = {name.format(i): torch.full((64, 1, 3), float(i)) for i in range(2)}
    converted = convert_text4vis(write(without_head | added))
    assert converted.config.temporal_shift == "token_t1d"
    assert torch.equal(converted.vision_model.encoder.layers[1].temporal_conv.weight, torch.ones(64, 1, 3))


def test_a_time_embedding_shows_joint_attention_that_no_head_follows(write, official):
    converted = convert_text4vis(write(official | {"visual.time_embedding": torch.ones(5, 64)}))
    config = converted.config
    assert (config.joint_space_time, config.num_frames, config.temporal_head) == (True, 5, "none")
    assert torch.equal(converted.vision_model.embeddings.time_embedding.weight, torch.ones(5, 64))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fusion_model.frame_position_embeddings.weight"), r"first temporal_head\.position"),
        (lambda state: state.update({"fusion_model.lstm": torch.ones(8)}), r"1 unexpected, first lstm"),
    ],
)
def test_a_checkpoint_that_does_not_fit_one_to_one_is_refused_by_name(write, official, clip_file, change, message):
    change(official)
    with pytest.raises(ValueError, match=rf"official\.pt do not fit Text4VisModel: .*{message}"):
        convert_text4vis(write(official), clip_file)


def test_a_part_of_a_vision_tower_or_another_file_is_refused(write, without_head, tmp_path):
    torch.save({"state_dict": without_head}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"not a checkpoint of Text4Vis.*got state_dict.*`Text4VisModel\.from_clip`"):
        convert_text4vis(tmp_path / "other.pt")
    del without_head["visual.proj"]
    with pytest.raises(ValueError, match=r"lacks 'visual\.proj' of CLIP's vision tower"):
        convert_text4vis(write(without_head))


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (None, r"number of attention heads .* is unknown.*\(`--clip`\)"),
        ("wide", r"must have 32 dimensions as the videos of .*, got 48"),
        ("other", r"lacks 'token_embedding\.weight' of CLIP's text tower"),
        ("nowhere", r"nowhere/config\.json could not be read"),
    ],
)
def test_a_head_needs_the_clip_that_training_started_from(write, official, text_tower, tmp_path, clip, message):
    torch.save(text_tower | {"text_projection": torch.ones(64, 48)}, tmp_path / "wide.pt")
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pt")
    source = {None: None, "nowhere": tmp_path / "nowhere"}.get(clip, tmp_path / f"{clip}.pt")
    with pytest.raises(ValueError, match=message):
        convert_text4vis(write(official), source)


@pytest.fixture
def resnet_clip(text_tower):
    """A tiny ResNet CLIP in OpenAI's layout."""
    shapes = {"conv1": (4, 3, 3, 3), "conv2": (4, 4, 3, 3), "conv3": (8, 4, 3, 3)}
    norms = {"bn1": 4, "bn2": 4, "bn3": 8}
    channels = 8
    for stage in range(4):
        width, block = 8 << stage, f"layer{stage + 1}.0."
        shapes |= {block + "conv1": (width, channels, 1, 1), block + "conv2": (width, width, 3, 3)}
        shapes |= {block + "conv3": (4 * width, width, 1, 1), block + "downsample.0": (4 * width, channels, 1, 1)}
        norms |= {
            block + "bn1": width,
            block + "bn2": width,
            block + "bn3": 4 * width,
            block + "downsample.1": 4 * width,
        }
        channels = 4 * width
    generator = torch.Generator().manual_seed(0)
    state = {f"visual.{name}.weight": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    for name, width in norms.items():
        state |= {f"visual.{name}.{part}": t for part, t in nn.BatchNorm2d(width).state_dict().items()}
    for name, width in (("q_proj", 256), ("k_proj", 256), ("v_proj", 256), ("c_proj", 32)):
        state[f"visual.attnpool.{name}.weight"] = torch.randn(width, 256, generator=generator)
        state[f"visual.attnpool.{name}.bias"] = torch.randn(width, generator=generator)
    state["visual.attnpool.positional_embedding"] = torch.randn(5, 256, generator=generator)
    return state | text_tower | {"logit_scale": torch.tensor(4.0)}


def test_text4vis_is_built_on_a_resnet_clip(resnet_clip, tmp_path):
    torch.save(resnet_clip, tmp_path / "rn.pt")
    model = Text4VisModel.from_clip(tmp_path / "rn.pt", temporal_layers=1, temporal_shift="tsm")
    assert model.config.resnet_layers == [1, 1, 1, 1]
    assert (model.config.vision_config.image_size, model.config.vision_config.hidden_size) == (64, 256)
    visual = resnet_to_transformers({n: t for n, t in resnet_clip.items() if n.startswith("visual.")})
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in visual.items())
    assert {name.partition(".")[0] for name in state} == {
        "logit_scale", "temporal_head", "text_model", "text_projection", "vision_model", "visual_projection",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: state.pop("visual.bn1.bias"),
            r"1 missing, first vision_model\.stem\.norm1\.bias",
        ),
        (lambda state: state.update(extra=torch.ones(1)), "1 unexpected, first extra"),
        (lambda state: state.pop("visual.attnpool.c_proj.weight"), "of CLIP's ResNet"),
    ],
)
def test_a_resnet_clip_that_is_not_whole_or_more_than_that_is_refused(resnet_clip, tmp_path, change, message):
    change(resnet_clip)
    torch.save(resnet_clip, tmp_path / "rn.pt")
    with pytest.raises(ValueError, match=message):
        Text4VisModel.from_clip(tmp_path / "rn.pt", temporal_head="none")
