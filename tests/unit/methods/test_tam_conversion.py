"""Official checkpoints of TAM: what fits, what does not, and what is said of it."""

import pytest
import torch

from kinoclip import TamConfig, TamModel
from kinoclip.methods.tam import convert_tam

SMALL = {"stage_widths": [8, 8, 12, 16], "stem_width": 8, "num_labels": 5}
OFFICIAL = {0: "prev_se", 1: "curr_se", 2: "next_se"}


def _official(model):
    """Name the weights of a model as the official code does."""
    state = {}
    for name, tensor in model.state_dict().items():
        before, found, tap = name.partition(".tam.taps.")
        number = tap.partition(".")[0]
        if found:
            place = OFFICIAL[int(number)] if model.config.blending_frames == 3 else f"blending_layers.{number}"
            name = f"{before}.tam.{place}.fc1.weight"
        state[name] = tensor.clone()
    return state


@pytest.fixture
def build():
    def build(**changes):
        torch.manual_seed(0)
        return TamModel(TamConfig(**{**SMALL, "depth": 18, **changes}))

    return build


@pytest.fixture
def write(tmp_path):
    def write(state):
        rest = {"epoch": 3, "arch": "tam", "best_top1": 50.0, "optimizer": {}, "scheduler": {}}
        torch.save({**rest, "state_dict": state}, tmp_path / "official.pt")
        return tmp_path / "official.pt"

    return write


@pytest.mark.parametrize(
    ("fields", "prefix"),
    [
        ({}, ""),
        ({}, "module."),
        ({"depth": 34}, ""),
        ({"blending_frames": 5}, "module."),
        ({"dense_blending": True}, ""),
        ({"block": "bottleneck", "stage_blocks": [1, 2, 1, 1]}, ""),
    ],
    ids=str,
)
def test_a_checkpoint_is_converted_bit_for_bit_and_its_sizes_are_read_off(build, write, fields, prefix):
    model = build(**fields)
    converted = convert_tam(write({prefix + name: tensor for name, tensor in _official(model).items()}))
    torch.testing.assert_close(converted.state_dict(), model.state_dict(), atol=0, rtol=0)
    named = {name: getattr(converted.config, name) for name in ("depth", "blending_frames", "dense_blending")}
    assert named == {name: getattr(model.config, name) for name in named} | (
        {"depth": 50} if "block" in fields else {}
    )
    assert (converted.config.block, converted.config.stage_blocks) == (model.config.block, model.config.stage_blocks)


def test_what_no_weight_tells_is_taken_as_given(build, write):
    given = {"num_frames": 16, "blending": "max", "temporal_pooling": "avg", "id2label": dict(enumerate("abcde"))}
    config = convert_tam(write(_official(build())), **given).config
    assert {name: getattr(config, name) for name in given} == given


def test_a_checkpoint_that_does_not_fit_one_to_one_is_refused_by_name(build, write):
    state = _official(build())
    del state["layer4.1.tam.curr_se.fc1.weight"]
    with pytest.raises(
        ValueError, match=r"official\.pt do not fit TamModel: 1 missing, first layer4\.1\.tam\.taps\.1"
    ):
        convert_tam(write(state))


def test_names_in_another_number_than_the_rows_are_refused(build, write):
    with pytest.raises(ValueError, match=r"2 of another shape, first fc\.bias"):
        convert_tam(write(_official(build())), id2label={0: "a", 1: "b"})


def test_a_resnet_without_aggregation_is_called_so(build, write):
    state = {name: tensor for name, tensor in _official(build()).items() if ".tam." not in name}
    with pytest.raises(ValueError, match=r"not a ResNet-TAM: it lacks 'layer1\.0\.tam\.taps\.0\.weight'"):
        convert_tam(write(state))


def test_a_file_without_a_state_dict_is_called_so(tmp_path):
    torch.save({"model": {}, "epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match=r"other\.pt is not a TAM checkpoint: it must hold `state_dict`, got model, epoch"
    ):
        convert_tam(tmp_path / "other.pt")
