from itertools import chain

import pytest
import torch

from kinoclip.data.samples import VideoSamples
from kinoclip.evaluation.evaluate import evaluate
from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.feature_cache import FeatureStore
from kinoclip.modeling.recognizer import VideoRecognizer
from kinoclip.text.attributes import read_attributes, write_attributes
from kinoclip.training.batches import BatchPlan, FeatureSamples, seed_micro_batch, update_batches
from kinoclip.training.build_model import build_model, freeze_parameters
from kinoclip.training.recipe import Recipe, load_recipe
from kinoclip.training.trainer import train


def _chain(parts) -> list[int]:
    return list(chain.from_iterable(parts))


def _updates(plan: BatchPlan, epoch: int = 0) -> list[list[int]]:
    """Return the rows of each update, over all processes and micro-batches, in order."""
    parts = [plan.micro_batches(epoch, process) for process in range(plan.processes)]
    micro = [_chain(rows) for rows in zip(*parts, strict=True)]
    return [_chain(micro[i : i + plan.accumulation]) for i in range(0, len(micro), plan.accumulation)]


@pytest.mark.parametrize(
    "parts", [{"processes": 2}, {"accumulation": 4}, {"processes": 2, "accumulation": 2}], ids=str
)
def test_an_update_has_the_same_videos_in_the_same_order_for_any_processes_and_micro_batches(parts):
    assert _updates(BatchPlan.fitting(21, 8, seed=3, **parts)) == _updates(BatchPlan.fitting(21, 8, seed=3))


def test_an_epoch_takes_each_video_at_most_once_in_an_order_of_its_own():
    plan = BatchPlan.fitting(21, 4)
    first = _chain(_updates(plan, 0))
    assert len(first) == len(set(first)) == 20  # five updates of four; one video is left
    assert _chain(_updates(plan, 1)) != first


def test_each_pass_of_a_repeated_epoch_has_items_of_its_own():
    items = _chain(_updates(BatchPlan.fitting(4, 2, repeat=3)))
    assert sorted(items) == list(range(12))
    assert {item % 4 for item in items[:4]} == {0, 1, 2, 3}


def test_a_resumed_epoch_takes_the_rest_of_its_updates():
    plan = BatchPlan.fitting(16, 4, accumulation=2)
    assert plan.micro_batches(1, 0, first_update=2) == plan.micro_batches(1, 0)[4:]


def test_a_batch_shrinks_to_the_videos_and_must_be_divisible():
    assert BatchPlan.fitting(11, 32, accumulation=2, processes=2).batch_size == 8
    with pytest.raises(ValueError, match="divisible by 3 processes x 1 micro-batches, got 8"):
        BatchPlan.fitting(20, 8, processes=3)
    with pytest.raises(ValueError, match="There are 3 videos for 4 micro-batches"):
        BatchPlan.fitting(3, 8, accumulation=4)


def test_random_numbers_of_a_micro_batch_depend_on_its_position_only():
    draws = []
    for position in ((0, 5, 1, 0), (0, 5, 1, 1), (0, 5, 1, 0)):
        seed_micro_batch(*position)
        draws.append(torch.rand(3).tolist())
    assert draws[0] == draws[2] != draws[1]


def test_batches_are_grouped_by_update_and_list_unreadable_videos(broken, processor):
    samples = VideoSamples(broken, processor.video_processor, seed=1)
    updates = list(update_batches(samples, BatchPlan.fitting(12, 4, accumulation=2), epoch=0, process=0))
    assert [[len(batch["labels"]) for batch in update] for update in updates] == [[2, 2]] * 3
    failed = [failure for update in updates for batch in update for failure in batch["failed"]]
    assert [row for row, _ in failed] == [2]  # another video replaces it
    assert "clip-2.mp4" in failed[0][1]


@pytest.fixture
def encoded(monkeypatch) -> list[dict]:
    """The inputs of each video that is encoded for features that are stored."""
    seen, encode = [], VideoRecognizer.encode_fixed
    monkeypatch.setattr(
        VideoRecognizer, "encode_fixed", lambda model, **videos: seen.append(videos) or encode(model, **videos)
    )
    return seen


def _store(recipe, dataset, folder) -> FeatureSamples:
    """Store the features of a recipe's model."""
    model, processor = build_model(recipe, ["a"])
    freeze_parameters(model, recipe.training)
    return FeatureSamples.filled(VideoSamples(dataset, processor.video_processor), folder, model)


FROZEN = {"training.freeze": "towers", "training.cache_features": True}


def test_stored_features_train_like_pixels_and_are_computed_once_per_setting(shapes, recipe, tmp_path, encoded):
    cached, store = recipe.with_settings(FROZEN), tmp_path / "store"
    plain = train(recipe.with_settings({"training.freeze": "towers"}), shapes, tmp_path / "pixels")
    stored = train(cached, shapes, tmp_path / "features", features=store)
    assert stored.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], abs=1e-6)
    assert len(list(store.iterdir())) == 12
    train(cached.with_settings({"model.num_frames": 2}), shapes, tmp_path / "two", features=store)
    assert len(list(store.iterdir())) == 24
    encoded.clear()
    assert train(cached, shapes, tmp_path / "again", features=store).history == stored.history
    assert len(encoded) == 1  # by which the stored features are found


RESTORED = {"model": {"num_frames": 4}, "data": {"augmentation": "none"}, "training": {"epochs": 2, "batch_size": 4}}


@pytest.mark.parametrize("settings", [{}, {"model.restored_per_gap": "none"}])
def test_a_restorer_trains_on_stored_features_of_kept_and_discarded_frames_like_on_pixels(shapes, tmp_path, settings):
    content = {"method": "sllm", "start": "mini", **RESTORED}
    frozen = {"training.freeze": "towers", "model.loss": "cross_entropy", "training.lr": 1e-3, **settings}
    recipe = Recipe.from_dict("restored", content).with_settings(frozen)
    stored = recipe.with_settings({"training.cache_features": True})
    results = [
        train(one, shapes, tmp_path / name, validation=shapes)
        for name, one in (("pixels", recipe), ("stored", stored))
    ]
    losses, others = ([epoch["loss"] for epoch in result.history] for result in results)
    assert others == pytest.approx(losses, abs=1e-6)
    assert losses[1] < losses[0]
    metrics, same = ([epoch["metrics"] for epoch in result.history] for result in results)
    assert same == metrics


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (FROZEN | {"data.augmentation": "center_crop"}, "only if the pixels are the same in each epoch"),
        ({"training.cache_features": True}, "only if the encoder of frames is frozen"),
    ],
)
def test_features_that_change_are_not_stored(shapes, recipe, tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        train(recipe.with_settings(settings), shapes, tmp_path / "run")


def test_tokens_that_a_trained_projection_changes_are_not_stored(shapes, tmp_path):
    recipe = load_recipe("benchmark/alt-r0").with_settings(
        {**FROZEN, "data.augmentation": "none", "training.batch_size": 4}
    )
    with pytest.raises(ValueError, match="only if the encoder of frames is frozen"):
        train(recipe, shapes, tmp_path / "run")


def test_models_of_the_same_weights_and_other_settings_share_no_features(shapes, tmp_path):
    settings = {"model.region_projection": "shared", "data.augmentation": "none"}
    counts = []
    for merged in (0, 4):
        recipe = load_recipe("benchmark/alt-r0").with_settings({**FROZEN, **settings, "model.merge_r": merged})
        counts.append(_store(recipe, shapes.select([0]), tmp_path)[0]["frames"]["tokens"].shape[2])
    assert counts[1] < counts[0] == 36


@pytest.mark.parametrize(("kept", "reads"), [(2**28, 3), (100, 6)])
def test_stored_features_are_read_once_while_they_fit_into_memory(shapes, tmp_path, monkeypatch, kept, reads):
    read, load = [], FeatureStore.load
    monkeypatch.setattr(FeatureStore, "load", lambda store, key: read.append(key) or load(store, key))
    monkeypatch.setattr("kinoclip.training.batches._KEPT_BYTES", kept)
    stored = _store(load_recipe("kinofigures/bike"), shapes.select(range(3)), tmp_path)
    first, second = ([stored[number]["frames"]["embeds"] for number in range(3)] for _ in range(2))
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    assert len(read) == reads


def test_models_that_differ_behind_the_encoder_share_features(shapes, tmp_path, encoded):
    for row in ("bike", "bike-transformer"):
        _store(load_recipe(f"kinofigures/{row}"), shapes.select(range(3)), tmp_path)
    assert len(encoded) == 3 + 1
    assert len(list(tmp_path.iterdir())) == 3


def test_training_attributes_decodes_no_video_and_validation_each_once(shapes, broken, recipe, tmp_path, monkeypatch):
    write_attributes(tmp_path / "known.json", {name: ["a shape", name] for name in shapes["name"]})
    settings = {"model.attributes": "shared", "model.train_branch": "attributes", "training.epochs": 3}
    protocol = {
        "evaluation.protocol": "bike_fused_multi_view",
        "evaluation.validation_protocol": "bike_fused_multi_view",
    }
    described = recipe.with_settings({**settings, **protocol, "data.attributes": str(tmp_path / "known.json")})
    decoded, read = [], VideoSamples._read
    monkeypatch.setattr(
        VideoSamples, "_read", lambda samples, row, index: decoded.append(row["name"]) or read(samples, row, index)
    )
    result = train(described, shapes, tmp_path / "run", validation=broken.select(range(4)))
    assert sorted(decoded) == [f"clip-{number}.mp4" for number in range(4)]
    assert result.history[0]["loss"] != result.history[2]["loss"]
    assert list(result.failures) == ["clip-2.mp4"]
    assert "text, not a video" in result.failures["clip-2.mp4"]
    # the features of all twelve views give the accuracy of the videos themselves
    report = evaluate(
        *load_recognizer(tmp_path / "run"),
        broken.select(range(4)),
        described.evaluation["protocol"],
        attributes=read_attributes(tmp_path / "known.json"),
    )
    assert report.metrics == result.history[2]["metrics"]
