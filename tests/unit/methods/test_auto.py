"""Loading by name: what does not fit, or is more than models need, is refused before it takes time or memory."""

import json
import math
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from hub_server import serve
from huggingface_hub import HfApi, get_session, hf_api
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from kinoclip import BikeModel, BikeProcessor
from kinoclip.methods import auto
from kinoclip.methods.auto import (
    check_finite,
    load_plain_clip,
    load_processor,
    load_weights,
    mini_clip_path,
    read_config,
)
from kinoclip.modeling.video_processing import RecognizerVideoProcessor


@pytest.fixture
def change(bike_folder):
    """A function that changes a JSON file of a model folder, at a dotted place, and returns the folder."""

    def change(file, place, value):
        content = json.loads((bike_folder / file).read_text())
        *outer, last = place.split(".")
        holder = content
        for name in outer:
            holder = holder.setdefault(name, {})
        holder[last] = value
        (bike_folder / file).write_text(json.dumps(content))
        return str(bike_folder)

    return change


@pytest.fixture
def nothing_is_built(monkeypatch):
    """Fail if weights are about to be loaded."""

    def fail(*args, **kwargs):
        raise AssertionError("the weights were loaded")

    monkeypatch.setattr(AutoModel, "from_pretrained", fail)
    monkeypatch.setattr(BikeModel, "from_pretrained", fail)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("text_config.vocab_size", 15_000_000, "1 of another shape, first text_model.embeddings.token_embedding"),
        ("text_config.hidden_size", 10**6, "of another shape"),
        ("vision_config.intermediate_size", 10**9, "of another shape"),
        ("text_config.max_position_embeddings", 10**9, "of another shape"),
        ("vision_config.image_size", 10**6, "of another shape"),
        ("projection_dim", 10**8, "of another shape"),
        ("temporal_layers", 200, "missing, first temporal_head.encoder.layers.10"),
        ("candidate_shapes", {"embeds": [1, 2, 10**9]}, "1 missing, first candidate_embeds"),
    ],
)
def test_sizes_are_compared_with_the_header_of_the_weights_first(change, nothing_is_built, place, value, said):
    folder, begin = change("config.json", place, value), time.monotonic()
    with pytest.raises(ValueError, match=f"do not fit its config.json: .*{said}"):
        load_weights(folder, torch.float32)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(
    ("place", "value"),
    [
        *((f"{tower}_config.num_hidden_layers", 10**6) for tower in ("text", "vision")),
        *(("temporal_layers", 201), ("num_labels", 10**7), ("text_config.vocab_size", 10**14)),
        *(
            ("text_config.num_attention_heads", -1),
            ("logit_scale_init_value", math.nan),
            ("text_config.layer_norm_eps", math.inf),
        ),
    ],
)
def test_numbers_that_no_model_needs_are_refused_by_name(change, place, value):
    folder, begin = change("config.json", place, value), time.monotonic()
    with pytest.raises(ValueError, match=f"{place.rpartition('.')[2]} must be a number from"):
        read_config(folder)
    assert time.monotonic() - begin < 1


def test_a_label_may_be_named_like_a_field(change):
    read_config(change("config.json", "label2id", {"layers of cake": 399}))


@pytest.mark.parametrize(("name", "value"), [("eos_token_id", 1114), ("eos_token_id", -1), ("pad_token_id", 10**6)])
def test_a_special_token_outside_the_vocabulary_is_refused(change, name, value):
    with pytest.raises(ValueError, match=f"{name} must be from 0 to 1113, got {value}"):
        read_config(change("config.json", f"text_config.{name}", value))


def test_a_tokenizer_whose_ids_the_text_tower_lacks_is_refused(change):
    folder = change("tokenizer.json", "added_tokens", [])
    content = json.loads((mini_clip_path() / "tokenizer.json").read_text())
    content["model"]["vocab"]["zebra"] = 1114
    (Path(folder) / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="the text tower has 1114 tokens"):
        load_processor(folder)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("context_length", 10**14, "context_length must be a number from"),
        ("context_length", 10**9, "context_length must be from 1 to 10000"),
        ("context_length", 78, "context_length must be at most 77"),
        ("context_length", 0, "context_length must be from 1"),
        ("templates", ["a {}"] * 1001, "at most 1000 templates"),
        ("templates", ["a {}"] * 10**6, "templates must have at most 50000 items"),
        ("templates", ["a" * 10**6 + "{}"], "at most 10000 characters"),
        ("video_processor.image_mean", [math.nan, 0, 0], "image_mean must be a number from"),
        ("video_processor.image_std", [0, 1, 1], "image_std must be three positive finite numbers"),
        ("video_processor.image_std", [1, 1], "image_std must be three positive finite numbers"),
        ("video_processor.resample", 0, "resample must be 2"),
        ("video_processor.num_frames", 10**9, "must be from 1 to 10000, got 1000000000"),
        ("video_processor.num_clips", 0, "must be from 1 to 10000, got 0"),
        ("video_processor.crop_size.height", 10**6, "must be from 1 to 4096"),
    ],
)
def test_a_processor_of_values_that_no_model_needs_is_refused(change, place, value, said):
    folder, begin = change("processor_config.json", place, value), time.monotonic()
    with pytest.raises(ValueError, match=said):
        load_processor(folder)
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize("mean", [[math.nan, 0, 0], [0, 0], [math.inf, 0, 0]])
def test_a_mean_that_is_no_number_is_refused_in_python_too(mean):
    with pytest.raises(ValueError, match="image_mean must be three finite numbers"):
        RecognizerVideoProcessor(image_mean=mean)


def test_the_largest_published_settings_are_accepted():
    # 32 frames, 10 clips, 3 crops of 336 pixels: 325 million values
    sizes = {"crop_size": {"height": 336, "width": 336}, "size": {"shortest_edge": 336}}
    assert RecognizerVideoProcessor(num_frames=32, num_clips=10, num_crops=3, **sizes).num_frames == 32


def test_all_views_of_a_video_together_are_bounded():
    with pytest.raises(ValueError, match="must have at most 500000000 values, got 1505280000"):
        RecognizerVideoProcessor(num_frames=10_000)  # 3 * 224 * 224 * 10,000


@pytest.mark.parametrize(("name", "load"), [("config.json", read_config), ("tokenizer.json", load_processor)])
def test_a_json_file_of_hundreds_of_megabytes_is_not_parsed(bike_folder, name, load):
    with (bike_folder / name).open("r+b") as file:
        file.truncate(300_000_000)
    with pytest.raises(ValueError, match=rf"{name} must have at most 40000000 bytes"):
        load(str(bike_folder))


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("text_config.vocab_size", 15_000_000, "do not fit CLIP: 1 of another shape"),
        ("text_config.num_hidden_layers", 10**6, "num_hidden_layers must be a number from 0 to 200"),
        ("vision_config.num_hidden_layers", 50, "do not fit CLIP: .* missing"),
    ],
)
def test_a_plain_clip_is_compared_with_its_weights_first(tmp_path, nothing_is_built, place, value, said):
    for file in mini_clip_path().iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    content = json.loads((tmp_path / "config.json").read_text())
    tower, name = place.split(".")
    content[tower][name] = value
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said):
        load_plain_clip(str(tmp_path))


def test_candidates_need_a_name_each(bike_folder, change):
    state = load_file(bike_folder / "model.safetensors")
    save_file({**state, "candidate_embeds": torch.ones(1, 3, 32)}, bike_folder / "model.safetensors", {"format": "pt"})
    folder = change("config.json", "candidate_shapes", {"embeds": [1, 3, 32]})
    with pytest.raises(ValueError, match="got 2 names for 3"):
        load_weights(folder, torch.float32)


def test_a_scale_of_logits_that_overflows_is_refused(tiny_bike):
    tiny_bike.logit_scale.data.fill_(89.0)  # exp(88.7) is the largest float32
    with pytest.raises(ValueError, match=r"exp\(logit_scale\) is infinite"):
        check_finite(tiny_bike, "folder")


def test_weights_without_a_header_are_compared_too(bike_folder, change, nothing_is_built):
    torch.save(load_file(bike_folder / "model.safetensors"), bike_folder / "pytorch_model.bin")
    (bike_folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"do not fit its config\.json"):
        load_weights(change("config.json", "projection_dim", 48), torch.float32)


def test_a_folder_without_weights_is_named(bike_folder):
    (bike_folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"it has neither model\.safetensors nor pytorch_model\.bin"):
        load_weights(str(bike_folder), torch.float32)


def test_a_sharded_model_loads_and_a_missing_shard_is_named(tiny_bike, bike_processor, tmp_path):
    tiny_bike.save_pretrained(tmp_path, max_shard_size="100KB")
    bike_processor.save_pretrained(tmp_path)
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    assert len(shards) > 1
    loaded = load_weights(str(tmp_path), torch.float32)
    torch.testing.assert_close(loaded.state_dict(), tiny_bike.state_dict(), atol=0, rtol=0)
    assert isinstance(load_processor(str(tmp_path)), BikeProcessor)
    shards[0].unlink()
    with pytest.raises(ValueError, match=f"it lacks {shards[0].name}"):
        load_weights(str(tmp_path), torch.float32)


def test_a_mirror_that_knows_no_sizes_is_no_hindrance(monkeypatch):
    with serve() as hub:  # it holds nothing
        monkeypatch.setattr(auto, "is_offline_mode", lambda: False)
        monkeypatch.setattr(auto, "HfApi", partial(HfApi, hub.url))
        monkeypatch.setattr(
            hf_api, "get_session", type(get_session())
        )  # without the hook of the suite, which is offline
        monkeypatch.setattr(auto.PreTrainedConfig, "get_config_dict", lambda _: pytest.fail("loading went on"))
        with pytest.raises(pytest.fail.Exception, match="loading went on"):
            read_config("org/absent")


@pytest.mark.parametrize("name", ["of this endpoint", "/gone/model", "mini", "org/absent", "", "."])
def test_what_is_no_model_of_the_hub_has_no_revision(name):
    assert auto.read_revision(name) is None


def test_a_hub_that_cannot_be_reached_is_reported_after_one_request(monkeypatch):
    monkeypatch.setattr(auto, "is_offline_mode", lambda: False)
    monkeypatch.setattr(auto, "HfApi", partial(HfApi, "http://127.0.0.1:9"))  # no server
    monkeypatch.setattr(hf_api, "get_session", type(get_session()))  # without the hook of the suite, which is offline
    monkeypatch.setattr(auto.PreTrainedConfig, "get_config_dict", lambda _: pytest.fail("a second request"))
    with pytest.raises(
        ValueError, match=r"could not be fetched from the hub .* refused. Check the name and the connection"
    ):
        read_config("org/absent")
