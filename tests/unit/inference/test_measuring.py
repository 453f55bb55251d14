"""Which settings of a model are measured, and what is measured of them."""

import pytest
import torch

from kinoclip import BikeModel, Classifier, SllmModel, SllmProcessor
from kinoclip.data import load_videos
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.inference import measuring
from kinoclip.inference.budget import Setting
from kinoclip.inference.measuring import find_choices, load_setting, measure_curve

ONE_BACKEND = [{"dtype": "auto", "backend": "torch"}]


@pytest.fixture(scope="module")
def shapes():
    """22 clips, one of each class."""
    return load_videos("kinoshapes/actions:1", split="train")


@pytest.fixture
def measured(monkeypatch):
    """A function that measures the given choices and returns the curve and the lines of its report."""
    monkeypatch.setattr(measuring, "_SECONDS", 0.0)

    def measure(model, data, *choices):
        lines = []
        monkeypatch.setattr(measuring, "find_choices", lambda _: [*choices, ONE_BACKEND])
        return measure_curve(str(model), data, source="shapes", report=lines.append), lines

    return measure


def test_the_choices_are_what_a_model_has(bike_folder, tokenizer, tmp_path):
    found = find_choices(Classifier.load(bike_folder, device="cpu"))
    assert found[0] == [{"frames": 4}, {"frames": 2}, {"frames": 1}]
    assert found[1] == [{"clips": 1}, {"clips": 2}, {"clips": 4}]
    # a quarter, a half and three quarters of 4 patches in 2 layers: 0.5, 1 and 1.5 in each, of which 0 is the saved number
    assert found[2] == [{"merge_r": None}, {"merge_r": 1}, {"merge_r": 2}]
    assert found[-1][0] == {"dtype": "auto", "backend": "torch"}

    sllm = SllmModel.from_recognizer(BikeModel.from_pretrained(bike_folder), rate=2)
    sllm.save_pretrained(tmp_path / "sllm")
    SllmProcessor.for_config(sllm.config, tokenizer).save_pretrained(tmp_path / "sllm")
    found = find_choices(Classifier.load(tmp_path / "sllm", device="cpu"))
    assert [{"rate": None}, {"rate": 4}, {"rate": 8}] in found


def test_backends_are_those_that_are_installed(bike_folder, monkeypatch):
    classifier = Classifier.load(bike_folder, device="cpu")
    monkeypatch.setattr(measuring, "find_spec", lambda name: name == "openvino")
    assert [each["backend"] for each in find_choices(classifier)[-1]] == ["torch", "openvino", "openvino-int8"]
    classifier.model.to(torch.bfloat16)
    assert [each["dtype"] for each in find_choices(classifier)[-1]] == ["auto", "float32", "auto", "auto"]


def test_the_accuracy_of_a_setting_is_that_of_evaluate(measured, shapes):
    curve, _ = measured("mini", shapes, [{"frames": 8}, {"frames": 2}])
    assert [point.setting for point in curve.points] == [Setting(8), Setting(2)]
    for point in curve.points:
        chosen = load_setting("mini", point.setting)
        report = evaluate(chosen.model, chosen.processor, shapes)
        assert point.accuracy == pytest.approx(report.metrics["top1"], abs=1e-4)
        assert point.seconds > 0
    assert curve.points[0].accuracy > 0.3  # chance is 1 / 22
    assert (curve.metric, curve.data["videos"], curve.data["split"]) == ("top1", 22, "train")


def test_a_setting_that_the_model_cannot_have_is_reported_and_left_out(measured, shapes, bike_folder):
    curve, lines = measured(bike_folder, shapes, [{"frames": 4}], [{"rate": None}, {"rate": 2}])
    assert [point.setting for point in curve.points] == [Setting(4)]
    assert any(
        line.startswith("left out: --frames 4 --clips 1 --set rate=2: 'rate' is not a setting") for line in lines
    )


def test_settings_next_to_a_beaten_one_are_not_measured(measured, shapes, monkeypatch):
    seconds = {8: 1.0, 4: 0.5, 2: 0.7}  # 4 frames beat 2, so a single one is not tried

    def measure(classifier, setting, *_):
        return measuring.Point(setting, 0.5, seconds[setting.frames], ""), "top1"

    monkeypatch.setattr(measuring, "_measure_setting", measure)
    curve, _ = measured("mini", shapes, [{"frames": 8}, {"frames": 4}, {"frames": 2}, {"frames": 1}])
    assert [point.setting.frames for point in curve.points] == [8, 4, 2]


def test_what_can_be_chosen_is_measured_again_and_the_second_time_counts(measured, shapes, monkeypatch):
    times = iter([1.0, 0.1, 0.9, 0.8])  # 8 frames, 4 frames; again 8 frames, 4 frames

    def measure(classifier, setting, *_):
        return measuring.Point(setting, setting.frames / 10, next(times), ""), "top1"

    monkeypatch.setattr(measuring, "_measure_setting", measure)
    curve, _ = measured("mini", shapes, [{"frames": 8}, {"frames": 4}])
    assert [(point.setting.frames, point.seconds) for point in curve.points] == [(8, 0.9), (4, 0.8)]
