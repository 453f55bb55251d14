import json
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from kinoclip.data.samples import class_names
from kinoclip.inference.loading import load_recognizer
from kinoclip.text.attributes import write_attributes
from kinoclip.training import loop
from kinoclip.training.checkpoints import read_checkpoint
from kinoclip.training.loop import train
from kinoclip.training.run import peak_memory_mb, reset_peak_memory
from kinoclip.training.starting import start_model


def _weights(folder):
    return load_file(folder / "model.safetensors")


def test_a_run_leaves_a_folder_that_names_its_classes_and_says_how_it_came_about(shapes, recipe, tmp_path):
    recipe = recipe.with_settings({"evaluation.selection": "validation"})
    result = train(recipe, shapes, tmp_path / "run", validation=shapes)
    model, processor = load_recognizer(tmp_path / "run")
    assert list(model.config.id2label.values()) == shapes.features["label"].names
    pixels = processor(videos=shapes[0]["video"]["bytes"])["pixel_values_videos"]
    assert model(pixels).logits.shape == (1, 6)
    told = json.loads((tmp_path / "run" / "training.json").read_text())
    assert told["recipe"] == json.loads(json.dumps(recipe.to_dict()))
    assert told["coverage"]["training"]["found"] == 12
    assert (told["updates"], told["history"]) == (3, result.history)
    assert result.best == {"epoch": 0, "update": 3, "value": result.history[0]["metrics"]["top1"]}


def test_the_best_weights_are_published_not_the_last(shapes, recipe, tmp_path, monkeypatch):
    values = iter([0.9, 0.1])
    monkeypatch.setattr(
        loop, "evaluate", lambda *_, **__: SimpleNamespace(metrics={"top1": next(values)}, failures={})
    )
    two = recipe.with_settings({"training.epochs": 2, "evaluation.selection": "validation"})
    result = train(two, shapes, tmp_path / "run", validation=shapes)
    assert result.best["epoch"] == 0
    best = load_file(tmp_path / "run" / "checkpoints" / "best-3" / "model.safetensors")
    published = _weights(tmp_path / "run")
    assert all(torch.equal(published[name], best[name]) for name in best)


def test_the_last_weights_are_published_however_good_an_earlier_epoch_was(shapes, recipe, tmp_path, monkeypatch):
    values = iter([0.9, 0.1])
    monkeypatch.setattr(
        loop, "evaluate", lambda *_, **__: SimpleNamespace(metrics={"top1": next(values)}, failures={})
    )
    result = train(recipe.with_settings({"training.epochs": 2}), shapes, tmp_path / "run", validation=shapes)
    last = load_file(tmp_path / "run" / "checkpoints" / "step-6" / "model.safetensors")
    published = _weights(tmp_path / "run")
    assert result.best is None
    assert all(torch.equal(published[name], last[name]) for name in last)


def test_a_selection_without_videos_to_select_on_is_refused_before_training(shapes, recipe, tmp_path):
    selecting = recipe.with_settings({"evaluation.selection": "validation"})
    with pytest.raises(ValueError, match="selection is 'validation', but there are no validation videos"):
        train(selecting, shapes, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_attributes_of_a_validation_video_are_an_error_before_training(shapes, recipe, tmp_path):
    names = list(shapes["name"])
    write_attributes(tmp_path / "known.json", {name: ["a shape"] for name in names[:8]})
    settings = {"model.attributes": "shared", "model.train_branch": "attributes"}
    described = recipe.with_settings({**settings, "data.attributes": str(tmp_path / "known.json")})
    with pytest.raises(ValueError, match=r"no attributes of clip-8.mp4 \(1 of 1 videos are missing\)"):
        train(described, shapes.select(range(8)), tmp_path / "run", validation=shapes.select([8]))
    assert not (tmp_path / "run").exists()


def test_time_and_memory_of_a_run_count_all_of_its_sessions(shapes, recipe, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_note_failures", lambda parts, _: _interrupt_after(2, parts.run.progress.update))
        with pytest.raises(KeyboardInterrupt):
            train(recipe, shapes, tmp_path / "run")
    first = read_checkpoint(tmp_path / "run" / "checkpoints" / "step-2")[1]["progress"]["seconds"]
    train(recipe, shapes, tmp_path / "run", resume=True)
    told = json.loads((tmp_path / "run" / "training.json").read_text())
    assert told["seconds"] > first > 0
    assert told["training_videos_per_second"] == pytest.approx(12 / told["seconds"], rel=0.01)
    assert told["memory_mb"] > 10


def test_a_cpu_trains_in_float32_instead_of_float16_and_says_so(shapes, recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.accelerator.is_available", lambda: False)
    train(recipe.with_settings({"training.precision": "fp16"}), shapes, tmp_path / "run")
    assert "training.precision is fp16, which a CPU does not have: training in float32." in capsys.readouterr().err
    assert json.loads((tmp_path / "run" / "training.json").read_text())["precision"] == "no"


def test_a_second_run_into_a_folder_is_refused(shapes, recipe, tmp_path):
    train(recipe, shapes, tmp_path / "run")
    with pytest.raises(ValueError, match=r"holds a run already. Continue it with --resume"):
        train(recipe, shapes, tmp_path / "run")


def test_a_run_that_fails_before_its_first_update_leaves_its_folder_free(shapes, recipe, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        train(recipe, shapes, tmp_path / "run", start=tmp_path / "nowhere")
    assert train(recipe, shapes, tmp_path / "run").updates == 3


def test_a_finished_run_that_is_resumed_stays_as_it_is(shapes, recipe, tmp_path):
    first = train(recipe, shapes, tmp_path / "run")
    assert train(recipe, shapes, tmp_path / "run", resume=True) == first


def test_a_run_is_resumed_with_its_own_settings_only(shapes, recipe, tmp_path):
    train(recipe, shapes, tmp_path / "run")
    changed = recipe.with_settings({"training.lr": 2e-3})
    with pytest.raises(ValueError, match=r"with recipe.training.lr = 0.001, and it is 0.002 now"):
        train(changed, shapes, tmp_path / "run", resume=True)


def test_a_run_is_resumed_with_its_own_videos_only(shapes, recipe, tmp_path):
    train(recipe, shapes, tmp_path / "run")
    with pytest.raises(ValueError, match=r"with videos.training ="):
        train(recipe, shapes.select(range(10)), tmp_path / "run", resume=True)


def test_a_folder_with_other_things_is_refused(shapes, recipe, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other things, first notes.txt"):
        train(recipe, shapes, tmp_path)


def test_two_runs_do_not_write_into_one_folder_at_once(shapes, recipe, tmp_path, monkeypatch):
    def second(*_):
        with pytest.raises(RuntimeError, match="Another run writes to"):
            train(recipe, shapes, tmp_path / "run", resume=True)

    monkeypatch.setattr(loop, "_train_epoch", lambda *_: second() or monkeypatch.undo())
    train(recipe, shapes, tmp_path / "run")


def test_an_interrupted_run_continues_as_if_it_had_not_stopped(shapes, recipe, tmp_path, monkeypatch):
    settings = {
        "training.epochs": 2,
        "training.ema": 0.5,
        "data.augmentation": "resized_crop",
        "training.accumulation": 2,
    }
    recipe = recipe.with_settings(settings)
    whole = train(recipe, shapes, tmp_path / "whole", validation=shapes)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "_note_failures", lambda parts, _: _interrupt_after(4, parts.run.progress.update))
        with pytest.raises(KeyboardInterrupt):
            train(recipe, shapes, tmp_path / "stopped", validation=shapes)
    resumed = train(recipe, shapes, tmp_path / "stopped", validation=shapes, resume=True)
    assert resumed.history == whole.history
    expected, found = _weights(tmp_path / "whole"), _weights(tmp_path / "stopped")
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def _interrupt_after(update, done):
    if done == update:
        signal.raise_signal(signal.SIGINT)


def test_the_average_of_the_weights_is_what_is_published(shapes, recipe, tmp_path):
    train(recipe.with_settings({"training.ema": 0.5}), shapes, tmp_path / "average")
    train(recipe, shapes, tmp_path / "last")
    name = "temporal_head.encoder.layers.0.mlp.fc1.weight"
    average = load_file(tmp_path / "average" / "checkpoints" / "step-3" / "average.safetensors")[name]
    published, last = (_weights(tmp_path / run)[name] for run in ("average", "last"))
    assert torch.equal(published, average)
    assert not torch.equal(published, last)


def test_adapters_are_merged_before_the_model_is_saved(shapes, recipe, tmp_path):
    train(recipe.with_settings({"training.lora.rank": 2}), shapes, tmp_path / "run")
    train(recipe, shapes, tmp_path / "plain")
    assert _weights(tmp_path / "run").keys() == _weights(tmp_path / "plain").keys()
    config, plain = ((tmp_path / run / "config.json").read_text() for run in ("run", "plain"))
    assert config == plain


def test_an_unreadable_video_is_replaced_and_named_in_the_result(shapes, recipe, tmp_path, capsys):
    columns = shapes.select_columns(["video", "label", "name"])
    rows = [dict(row) for row in columns]
    rows[2]["video"] = {"bytes": b"no video", "path": None}
    result = train(recipe, type(shapes).from_list(rows, features=columns.features), tmp_path / "run")
    assert list(result.failures) == ["clip-2.mp4"]
    assert "takes the place of one that cannot be read: clip-2.mp4" in capsys.readouterr().err


def test_a_video_that_cannot_be_measured_is_named_in_the_result(shapes, recipe, tmp_path, capsys):
    columns = shapes.select_columns(["video", "label", "name"])
    rows = [{**row, "name": f"measured-{row['name']}"} for row in columns]
    rows[2]["video"] = {"bytes": b"no video", "path": None}
    measured = type(shapes).from_list(rows, features=columns.features)
    result = train(recipe, shapes, tmp_path / "run", validation=measured)
    assert list(result.failures) == ["measured-clip-2.mp4"]
    assert "measured-clip-2.mp4 is in no measurement: " in capsys.readouterr().err


def test_brain_floats_train(shapes, recipe, tmp_path):
    exact = train(recipe, shapes, tmp_path / "exact")
    rough = train(recipe.with_settings({"training.precision": "bf16"}), shapes, tmp_path / "rough")
    # 8 bits: the losses are near, and not the same
    assert rough.history[0]["loss"] != exact.history[0]["loss"]
    assert rough.history[0]["loss"] == pytest.approx(exact.history[0]["loss"], abs=0.2)


def test_videos_without_a_label_are_left_out_where_labels_share_the_target(shapes, recipe, tmp_path):
    from datasets import ClassLabel, Features, List

    names = shapes.features["label"].names
    rows = [dict(row) for row in shapes.select_columns(["video", "label", "name"])]
    for number, row in enumerate(rows):
        row["label"] = [] if number == 0 else [row["label"], 0]
    columns = shapes.select_columns(["video", "name"]).features
    several = type(shapes).from_list(rows, features=Features({**columns, "label": List(ClassLabel(names=names))}))
    settings = {"training.objective": "candidates", "model.loss": "cross_entropy"}
    train(recipe.with_settings(settings), several, tmp_path / "run")
    told = json.loads((tmp_path / "run" / "training.json").read_text())
    assert told["videos"]["training"][0] == 11


def test_a_tracker_that_is_not_installed_is_missed_before_training(shapes, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.is_comet_ml_available", lambda: False)
    with pytest.raises(ImportError, match=r"The tracker comet_ml is not installed: pip install comet_ml"):
        train(recipe, shapes, tmp_path / "run", trackers=["comet_ml"])


def test_no_epochs_write_what_the_recipe_starts_from(shapes, recipe, tmp_path):
    result = train(recipe.with_settings({"training.epochs": 0}), shapes, tmp_path / "run")

    start, _ = start_model(recipe, class_names(shapes))
    written = load_file(tmp_path / "run" / "model.safetensors")
    assert result.updates == 0
    assert all(torch.equal(written[name], weight) for name, weight in start.state_dict().items() if name in written)


@pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK), reason="the peak of a process cannot be reset here"
)
def test_the_peak_memory_of_a_run_is_not_that_of_what_ran_before():
    device = torch.device("cpu")
    large = torch.ones(100_000_000)  # 400 MB
    before = peak_memory_mb(device)
    del large
    reset_peak_memory(device)
    assert peak_memory_mb(device) < before - 300
