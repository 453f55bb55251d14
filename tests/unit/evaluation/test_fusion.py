"""Weights of the branches are measured on validation videos, and written into a config."""

import json

import pytest
import torch

from kinoclip import BikeConfig, DstprConfig, SllmModel
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.evaluation.fusion import calibrate_fusion, save_fusion
from kinoclip.evaluation.protocols import PROTOCOLS
from kinoclip.evaluation.report import Report
from kinoclip.evaluation.scoring import ViewOutputs
from kinoclip.inference.backends import load_recognizer
from kinoclip.kinoshapes.benchmark import benchmark_dataset

SINGLE = PROTOCOLS["single_view"]


@pytest.fixture
def config(tiny_fields):
    return DstprConfig(**tiny_fields, chinese_branch=True)


def _views(video, chinese):
    return ViewOutputs(branch_logits=torch.tensor([[[v, c]] for v, c in zip(video, chinese, strict=True)]))


def test_the_best_share_is_the_one_that_both_branches_need(config):
    views = _views([[3.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [3.0, 0.0]])
    found = calibrate_fusion(config, ("video", "chinese"), views, torch.tensor([0, 0]), SINGLE)
    by_share = {row["weights"]["video"]: row["value"] for row in found["curve"]}
    # the first video is right from w = 0.25 on, where 3 w = 1 - w, and the second up to w = 0.75, where w = 3 (1 - w)
    assert [by_share[share] for share in (0.0, 0.2, 0.3, 0.7, 0.8, 1.0)] == [0.5, 0.5, 1.0, 1.0, 0.5, 0.5]
    assert found["metric"] == "top1"
    assert found["best"] == found["present"] == {"weights": {"video": 0.5, "chinese": 0.5}, "value": 1.0}
    assert len(found["curve"]) == 11


def test_of_equal_shares_the_nearest_to_the_present_one_is_the_best(config):
    config.set_fusion({"video": 0.9, "chinese": 0.1})
    views = _views([[3.0, 0.0], [0.0, 1.0]], [[0.0, 1.0], [3.0, 0.0]])
    found = calibrate_fusion(config, ("video", "chinese"), views, torch.tensor([0, 0]), SINGLE)
    assert found["best"]["weights"] == {"video": 0.7, "chinese": 0.3}
    assert found["present"]["value"] == 0.5


def test_other_branches_keep_their_proportion(tiny_fields):
    fusion = {"video": 0.2, "attributes": 0.2, "chinese": 0.6}
    config = BikeConfig(**tiny_fields, chinese_branch=True, attributes="shared", fusion=fusion)
    views = ViewOutputs(branch_logits=torch.randn(2, 1, 3, 4))
    found = calibrate_fusion(
        config, ("video", "chinese", "attributes"), views, torch.tensor([[1, 0, 0, 1]] * 2), SINGLE
    )
    assert found["metric"] == "map"
    assert found["curve"][0]["weights"] == {"video": 0.0, "chinese": 0.75, "attributes": 0.25}


def test_a_single_branch_or_official_scores_cannot_be_calibrated(config):
    with pytest.raises(ValueError, match="Only a model with several branches"):
        calibrate_fusion(config, ("video",), ViewOutputs(), torch.tensor([0]), SINGLE)
    views = _views([[1.0, 0.0]], [[1.0, 0.0]])
    with pytest.raises(ValueError, match="must read the fused logits"):
        calibrate_fusion(config, ("video", "chinese"), views, torch.tensor([0]), PROTOCOLS["bike_fused"])


@pytest.mark.parametrize("wrapped", [False, True])
def test_saved_weights_are_those_of_the_next_answer(tiny_bike, tiny_fields, tmp_path, wrapped):
    model = tiny_bike.load_second_text("shared")
    outer = SllmModel.from_recognizer(model, num_frames=4) if wrapped else model
    outer.save_pretrained(tmp_path)
    before = json.loads((tmp_path / "config.json").read_text())
    save_fusion(tmp_path, {"video": 0.35, "chinese": 0.65})
    loaded = type(outer).from_pretrained(tmp_path)
    assert loaded.unwrap().config.fusion == {"video": 0.35, "chinese": 0.65}
    after = json.loads((tmp_path / "config.json").read_text())
    inner = [content.get("recognizer_config", content) for content in (before, after)]
    for content in inner:
        del content["fusion"]
    assert before == after


def test_the_share_of_dstpr_follows_saved_weights(config, tmp_path):
    config.save_pretrained(tmp_path)
    save_fusion(tmp_path, {"video": 0.2, "chinese": 0.8})
    loaded = DstprConfig.from_pretrained(tmp_path)
    assert (loaded.fusion_weight, loaded.fusion) == (0.2, {"video": 0.2, "chinese": 0.8})


def test_the_votes_of_attributes_are_measured_alone_and_calibrated(tmp_path):
    videos = benchmark_dataset("actions", "validation", clips_per_class=1).select(range(6))
    names = videos.features["label"].names
    phrases = {row["name"]: [names[row["label"]]] for row in videos}
    found = evaluate(*load_recognizer("mini", attributes=True), videos, attributes=phrases, calibrate=True)
    assert found.metrics["attributes_top1"] == 1.0
    assert found.settings["fusion"]["curve"][0]["value"] == found.metrics["attributes_top1"]
    assert found.settings["fusion"]["curve"][-1]["value"] == found.metrics["video_top1"]
    assert found.settings["fusion"]["present"]["value"] == found.metrics["top1"]
    read = Report.load(found.save(tmp_path / "report.json"))
    assert read.lines() == found.lines()
    assert any(line.endswith("present and best") or line.endswith("best") for line in read.lines())
