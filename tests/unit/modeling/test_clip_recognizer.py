"""Recognizers built on a plain CLIP, from every layout it comes in."""

import json
import logging

import pytest
import torch
from openai_layout import to_module, to_openai
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel
from transformers.utils import logging as transformers_logging

from kinoclip import BikeConfig, BikeModel
from kinoclip.modeling.layers.text_features import end_of_text, ensemble

NEW = ("temporal_head.", "attributes.")


def _clip(tiny_fields, **text) -> CLIPModel:
    torch.manual_seed(0)
    towers = {name: tiny_fields[name] for name in ("text_config", "vision_config", "projection_dim")}
    towers["text_config"] = towers["text_config"] | text
    return CLIPModel(CLIPConfig(**towers)).eval()


@pytest.fixture(params=["right end-of-text id", "end-of-text id 2 as in published configs"])
def clip(request, tiny_fields):
    """A CLIP of random weights; the configs of OpenAI's models on the hub say 2 where the id is another."""
    wrong = {"eos_token_id": 2, "bos_token_id": 0, "pad_token_id": 1} if "2" in request.param else {}
    return _clip(tiny_fields, **wrong)


@pytest.fixture
def folder(clip, tmp_path):
    clip.save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@pytest.fixture
def inputs(tiny_fields):
    vocabulary = tiny_fields["text_config"]["vocab_size"]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, vocabulary - 2, (1, 3, 77), generator=generator)
    ids[..., 0], ids[..., 20] = vocabulary - 2, vocabulary - 1
    ids[..., 21:] = 0
    return torch.randn(2, 4, 3, 32, 32, generator=generator), ids


def _check_features(model, clip, inputs):
    pixels, ids = inputs
    with torch.no_grad():
        frames = clip.get_image_features(pixels.flatten(0, 1)).pooler_output.unflatten(0, (2, 4))
        texts = clip.get_text_features(ids[0]).pooler_output
        # the same weights; only the batches that rows are computed in differ
        torch.testing.assert_close(model.encode_frames(pixels).embeds, frames, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(model.encode_text(ids).embeds[0], texts, atol=1e-6, rtol=1e-6)


def test_a_clip_folder_fills_both_towers_bit_for_bit(clip, folder):
    state = BikeModel.from_clip(folder, temporal_layers=1).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in clip.state_dict().items())


@pytest.fixture
def warnings_of_transformers():
    """Commands that ran before in this process may have silenced them."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_warning()
    yield
    transformers_logging.set_verbosity(before)


@pytest.mark.usefixtures("warnings_of_transformers")
def test_no_table_of_the_initialized_weights_is_logged(folder, monkeypatch):
    messages = []
    logger = logging.getLogger("transformers.modeling_utils")
    monkeypatch.setattr(logger, "handle", lambda record: logger.filter(record) and messages.append(record.msg))
    BikeModel.from_clip(folder, temporal_layers=1)
    assert messages == []
    config = BikeModel.config_class.from_clip_config(CLIPConfig.from_pretrained(folder), temporal_layers=1)
    BikeModel.from_pretrained(folder, config=config)  # where it is not known which weights a checkpoint lacks
    assert "MISSING" in messages[0]


def test_frames_and_texts_are_encoded_as_clip_does(clip, folder, inputs):
    _check_features(BikeModel.from_clip(folder).eval(), clip, inputs)


@pytest.mark.parametrize("attributes", ["none", "shared", "own"])
def test_exactly_the_modules_of_the_method_are_new(clip, folder, attributes, tiny_fields):
    text = {"attribute_text_config": tiny_fields["text_config"], "attribute_projection_dim": 32}
    fields = {"attributes": attributes, **(text if attributes == "own" else {})}
    model = BikeModel.from_clip(folder, **fields)
    new = {name for name, _ in model.named_parameters()} - {name for name, _ in clip.named_parameters()}
    assert new
    assert {name.partition(".")[0] + "." for name in new} == set(NEW[: 1 if attributes == "none" else 2])


@pytest.mark.parametrize("kind", ["pt", "safetensors", "archive"])
def test_a_file_in_openai_layout_gives_the_features_of_clip(tiny_fields, tmp_path, inputs, kind):
    clip = _clip(tiny_fields)
    official = to_openai(clip.state_dict())
    path = tmp_path / f"clip.{'safetensors' if kind == 'safetensors' else 'pt'}"
    if kind == "safetensors":
        save_file(official, path)
    elif kind == "archive":
        torch.jit.save(torch.jit.script(to_module(official)), path)
    else:
        torch.save(official, path)
    _check_features(BikeModel.from_clip(path).eval(), clip, inputs)


def test_weights_from_a_file_in_openai_layout_are_saved_under_the_names_used_here(tiny_fields, tmp_path):
    torch.save(to_openai(_clip(tiny_fields).state_dict()), tmp_path / "clip.pt")
    model = BikeModel.from_clip(tmp_path / "clip.pt")
    model.save_pretrained(tmp_path / "saved")
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == model.state_dict().keys()


def test_half_precision_weights_in_openai_layout_become_float32_unless_kept(tiny_fields, tmp_path):
    official = {name: tensor.half() for name, tensor in to_openai(_clip(tiny_fields).state_dict()).items()}
    torch.save(official, tmp_path / "clip.pt")
    assert {p.dtype for p in BikeModel.from_clip(tmp_path / "clip.pt").parameters()} == {torch.float32}
    kept = BikeModel.from_clip(tmp_path / "clip.pt", dtype=torch.float16)
    assert {p.dtype for p in kept.parameters()} == {torch.float16}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda official: official.pop("ln_final.weight"), r"1 missing, first text_model\.final_layer_norm\.weight"),
        (lambda official: official.update({"fusion.weight": torch.ones(1)}), r"1 unexpected, first fusion\.weight"),
    ],
)
def test_an_openai_file_that_is_not_exactly_a_clip_is_refused(tiny_fields, tmp_path, change, message):
    official = to_openai(_clip(tiny_fields).state_dict())
    change(official)
    torch.save(official, tmp_path / "clip.pt")
    with pytest.raises(ValueError, match=message):
        BikeModel.from_clip(tmp_path / "clip.pt")


def test_without_a_dtype_the_config_of_the_clip_decides(clip_folder):
    stored = load_file(clip_folder / "model.safetensors")
    assert {weight.dtype for weight in stored.values()} == {torch.float16}
    model = BikeModel.from_clip(clip_folder, dtype=None, temporal_head="none")
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}  # as the config says


def test_a_folder_without_one_of_its_weights_is_refused(folder):
    state = load_file(folder / "model.safetensors")
    del state["vision_model.pre_layrnorm.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"1 missing, first vision_model\.pre_layrnorm\.weight"):
        BikeModel.from_clip(folder)


def test_a_folder_of_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="is not a CLIP checkpoint"):
        BikeModel.from_clip(tmp_path)


def test_texts_of_all_lengths_are_encoded_as_each_alone_and_in_their_order(tiny_fields):
    torch.manual_seed(0)
    model = BikeModel(BikeConfig(**tiny_fields, interaction="mean")).eval()
    end = model.config.text_config.eos_token_id
    ids = torch.full((1, 150, 30), end)  # more than are encoded at once
    for row, length in zip(ids[0], torch.randint(1, 29, (150,)).tolist(), strict=True):
        row[:length] = torch.randint(1, 40, (length,))

    with torch.no_grad():
        together = model.encode_text(ids).embeds[0]
        alone = torch.cat([model.encode_text(row[None, None]).embeds[0] for row in ids[0]])

    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_texts_longer_than_their_end_are_encoded_as_if_cut_there(tiny_fields, inputs):
    torch.manual_seed(0)
    model = BikeModel(BikeConfig(**tiny_fields, interaction="mean")).eval()
    assert not model.reads_words
    _, ids = inputs
    with torch.no_grad():
        padded, cut = model.encode_text(ids), model.encode_text(ids[..., :21])
    assert padded.words is None
    torch.testing.assert_close(padded.embeds, cut.embeds, atol=1e-6, rtol=1e-6)


def test_many_candidates_are_encoded_as_few(tiny_bike, inputs):
    ids = inputs[1].repeat(1, 50, 1)
    with torch.no_grad():
        many, few = tiny_bike.encode_text(ids), tiny_bike.encode_text(inputs[1])
    assert many.embeds.shape == (1, 150, 32)
    torch.testing.assert_close(many.embeds[:, 147:], few.embeds, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(many.words[147:], few.words, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(("eos", "expected"), [(9, [1, 2]), (2, [3, 3]), (None, [3, 3])])
def test_the_end_of_a_text_is_its_first_end_token_or_its_highest_id(eos, expected):
    # 11 is the highest id of both rows, at position 3
    assert end_of_text(torch.tensor([[1, 9, 9, 11], [1, 2, 9, 11]]), eos).tolist() == expected


def test_templates_are_averaged_as_unit_vectors():
    # lengths 2 and 3 count alike: (1, 0) and (0, 1) have the mean direction (1, 1) / sqrt 2
    embeds = torch.tensor([[[2.0, 0.0]], [[0.0, 3.0]]])
    torch.testing.assert_close(ensemble(embeds), torch.full((1, 2), 0.5**0.5))


def _trained_clip(tiny_fields, folder):
    """A CLIP whose temperature was trained away from its config's, as every published one."""
    clip = _clip(tiny_fields)
    torch.nn.init.constant_(clip.logit_scale, 4.6052)
    clip.save_pretrained(folder)
    return clip


@pytest.mark.parametrize("attributes", ["shared", "own"])
@pytest.mark.parametrize("layout", ["folder", "file"])
def test_the_temperature_of_attributes_starts_at_that_of_the_trained_clip(tiny_fields, tmp_path, attributes, layout):
    clip = _trained_clip(tiny_fields, tmp_path / "clip")
    torch.save(to_openai(clip.state_dict()), tmp_path / "clip.pt")
    source = tmp_path / ("clip" if layout == "folder" else "clip.pt")
    model = BikeModel.from_clip(source, attributes=attributes)
    assert model.attributes.logit_scale.item() == pytest.approx(4.6052)


@pytest.mark.parametrize("attributes", ["shared", "own"])
def test_an_attributes_branch_added_to_a_saved_model_starts_from_its_clip(tiny_fields, tmp_path, attributes):
    _trained_clip(tiny_fields, tmp_path / "clip")
    BikeModel.from_clip(tmp_path / "clip").save_pretrained(tmp_path / "video")
    saved = BikeConfig.from_pretrained(tmp_path / "video").to_dict()
    model = BikeModel.from_pretrained(tmp_path / "video", config=BikeConfig(**{**saved, "attributes": attributes}))
    assert model.attributes.logit_scale.item() == pytest.approx(4.6052)


def test_an_own_attributes_tower_starts_as_that_of_the_clip_and_stays_frozen(tiny_fields, tmp_path):
    clip = _trained_clip(tiny_fields, tmp_path / "clip")
    model = BikeModel.from_clip(tmp_path / "clip", attributes="own", train_branch="attributes")
    own = model.attributes.state_dict()
    tower = {name: t for name, t in clip.state_dict().items() if name.startswith(("text_model.", "text_projection."))}
    assert all(torch.equal(own[name], tensor) for name, tensor in tower.items())
    assert {f"attributes.{name}" for name in tower} <= set(model.freeze())


def test_an_attributes_branch_takes_the_tower_of_another_clip(tiny_fields, tmp_path, inputs):
    clip = _trained_clip(tiny_fields, tmp_path / "clip")
    torch.manual_seed(5)
    model = BikeModel(BikeConfig(**tiny_fields)).load_attribute_clip(tmp_path / "clip").eval()
    assert torch.equal(model.attributes.text_projection.weight, clip.text_projection.weight)
    assert model.attributes.logit_scale.item() == pytest.approx(4.6052)
    assert model.config.fusion == {"video": 0.7, "attributes": 0.3}
    pixels, ids = inputs
    expected = model(pixels, ids, attribute_input_ids=ids[0, :2]).logits
    model.save_pretrained(tmp_path / "saved")
    loaded = BikeModel.from_pretrained(tmp_path / "saved").eval()
    torch.testing.assert_close(loaded(pixels, ids, attribute_input_ids=ids[0, :2]).logits, expected, atol=0, rtol=0)


def test_weights_of_branches_that_follow_from_other_fields_follow_them(tiny_fields):
    saved = BikeConfig(**tiny_fields, attributes="shared").to_dict()
    assert BikeConfig(**{**saved, "chinese_branch": True}).fusion == {
        "video": 0.35,
        "attributes": 0.3,
        "chinese": 0.35,
    }
    kept = BikeConfig(**tiny_fields, attributes="shared", fusion={"video": 1, "attributes": 1}).to_dict()
    assert BikeConfig(**kept).fusion == {"video": 1, "attributes": 1}
