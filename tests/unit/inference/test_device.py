"""Where and in which data type a model computes."""

import pytest
import torch

from kinoclip import Classifier
from kinoclip.inference import backends
from kinoclip.inference.backends import choose_device, choose_dtype, load_recognizer
from kinoclip.kinoshapes import OBJECTS, kinoshapes_clips

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_a_gpu_if_there_is_one(cuda, mps, chosen, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert choose_device("auto").type == chosen


@pytest.mark.parametrize("device", ["abacus", "mps", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_in_one_line(device):
    with pytest.raises(ValueError, match=rf"such as \"cpu\" or \"cuda\", got '{device}'"):
        choose_device(device)


@pytest.mark.parametrize(
    ("has_bf16", "parameters", "chosen"),
    [(True, 20_000_000, torch.bfloat16), (True, 19_999_999, torch.float32), (False, 10**9, torch.float32)],
)
def test_auto_takes_bfloat16_for_large_models_where_it_is_faster(has_bf16, parameters, chosen, monkeypatch):
    monkeypatch.setattr(backends, "is_bf16_faster", lambda device: has_bf16)
    assert choose_dtype("auto", CPU, parameters) == chosen


@pytest.mark.parametrize("dtype", ["int8", "float64", "half a float"])
def test_an_unknown_dtype_is_named(dtype):
    with pytest.raises(ValueError, match=f"must be auto, float32, bfloat16 or float16, got '{dtype}'"):
        choose_dtype(dtype, CPU, 0)


def test_what_auto_chose_is_announced(bike_folder, monkeypatch, caplog):
    load_recognizer(bike_folder)
    assert caplog.text == ""
    monkeypatch.setattr(backends, "_MIN_PARAMETERS", 0)
    monkeypatch.setattr(backends, "is_bf16_faster", lambda device: True)
    model, _ = load_recognizer(bike_folder)
    assert model.dtype == torch.bfloat16
    assert f"{bike_folder} computes on cpu in bfloat16." in caplog.text


def test_bfloat16_gives_the_labels_of_float32():
    full, half = (Classifier.load("mini", dtype=dtype) for dtype in ("float32", "bfloat16"))
    clips = [clip.frames for clip in kinoshapes_clips(40, 3)]
    answers = [[answer.label for answer in each.classify(clips, OBJECTS)] for each in (full, half)]
    same = sum(one == other for one, other in zip(*answers, strict=True))
    assert same >= 39  # 36 labels; a tie may fall to the other side
