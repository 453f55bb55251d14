"""The embedded mini CLIP: it loads as any CLIP does, and it knows its shapes."""

import json
import math

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from kinoclip.data.kinoshapes import OBJECTS, kinoshapes_clips
from kinoclip.data.mini_clip import build_tokenizer
from kinoclip.embedded import mini_clip_path
from kinoclip.training.mini_clip import measure
from kinoclip.training.mini_clip.__main__ import main
from kinoclip.training.mini_clip.muon import orthogonalize
from kinoclip.training.mini_clip.objective import pad_with_zeros
from kinoclip.training.mini_clip.pool import resize_and_crop


@pytest.fixture(scope="module")
def model():
    return CLIPModel.from_pretrained(mini_clip_path()).eval()


@pytest.fixture(scope="module")
def tokenizer():
    return CLIPTokenizer.from_pretrained(mini_clip_path())


@pytest.fixture(scope="module")
def scores(model, tokenizer):
    return measure(model, tokenizer, num_videos=72, seed=1000)


def test_the_folder_takes_at_most_three_megabytes():
    assert sum(file.stat().st_size for file in mini_clip_path().iterdir()) <= 3_000_000


def test_the_weights_load_completely_in_fp32():
    model, report = CLIPModel.from_pretrained(mini_clip_path(), output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.dtype == torch.float32


@pytest.mark.parametrize("tower", ["text_config", "vision_config"])
def test_both_towers_have_width_over_64_heads(model, tower):
    config = getattr(model.config, tower)
    assert config.num_attention_heads == config.hidden_size // 64
    assert config.hidden_size % 64 == 0


def test_the_end_of_text_has_the_highest_id(model, tokenizer):
    assert tokenizer.eos_token_id == len(tokenizer) - 1 == model.config.text_config.vocab_size - 1
    assert model.config.text_config.eos_token_id == tokenizer.eos_token_id
    assert model.config.text_config.bos_token_id == tokenizer.bos_token_id == len(tokenizer) - 2
    assert tokenizer.model_max_length == 77


def test_the_shipped_tokenizer_is_the_one_that_is_built(tokenizer):
    assert tokenizer.get_vocab() == build_tokenizer().get_vocab()
    assert AutoTokenizer.from_pretrained(mini_clip_path())("a red star").input_ids == tokenizer("a red star").input_ids


def test_words_of_the_captions_are_single_tokens(tokenizer):
    assert tokenizer.tokenize("This is a video about purple triangle") == [
        "this</w>",
        "is</w>",
        "a</w>",
        "video</w>",
        "about</w>",
        "purple</w>",
        "triangle</w>",
    ]


@pytest.mark.parametrize("text", ["xylophone", "wow!", "naïve café", "日本"])
def test_any_other_text_falls_into_pieces_that_give_it_back(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.eos_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.replace(" ", "")


def test_padding_does_not_change_the_text_embedding(model, tokenizer):
    short = tokenizer(["a red star"], return_tensors="pt").input_ids
    padded = pad_with_zeros(tokenizer, ["a red star"])
    assert padded.shape == (1, 77)
    assert padded[0, short.shape[1] :].eq(0).all()
    first, second = (model.text_model(input_ids=ids).pooler_output for ids in (short, padded))
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)  # fp32 sums in another order


def test_the_image_processor_asks_for_the_size_of_the_tower(model):
    processor = CLIPImageProcessor.from_pretrained(mini_clip_path())
    size = model.config.vision_config.image_size
    assert (processor.size["shortest_edge"], processor.crop_size["height"]) == (size, size)


def test_the_image_processor_sees_what_the_training_saw(model):
    processor = CLIPImageProcessor.from_pretrained(mini_clip_path(), do_normalize=False, do_rescale=False)
    frame = next(kinoshapes_clips(1)).frames[0]
    trained = resize_and_crop(torch.from_numpy(frame).permute(2, 0, 1)[None], model.config.vision_config.image_size)
    seen = processor(images=frame, return_tensors="np")["pixel_values"]
    # Both scale with an antialiased bicubic filter; rounding may differ by one or two levels.
    assert np.abs(seen.astype(int) - trained.numpy().astype(int)).max() <= 2


def test_unseen_clips_are_named_right(scores):
    assert scores.accuracy >= 0.9


def test_saliency_finds_the_object_in_untrimmed_clips(scores):
    assert scores.saliency_hits >= 0.95
    assert scores.saliency_mass >= scores.frames_inside + 0.3


def test_the_record_says_how_the_weights_were_made():
    record = json.loads((mini_clip_path() / "training.json").read_text())
    assert record["command"].startswith("python -m kinoclip.training.mini_clip")
    assert record["scores"]["accuracy"] >= 0.9
    assert record["steps"] == record["log"][-1]["step"]


@pytest.fixture(scope="module")
def smoke_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training") / "mini"
    main(["--output", str(folder), "--steps", "2", "--pool-clips", "6", "--measured-videos", "2"])
    return folder


def test_the_training_script_writes_a_folder_that_loads(smoke_folder):
    model = CLIPModel.from_pretrained(smoke_folder)
    tokenizer = CLIPTokenizer.from_pretrained(smoke_folder)
    output = model(input_ids=pad_with_zeros(tokenizer, OBJECTS), pixel_values=torch.zeros(1, 3, 48, 48))
    assert output.logits_per_image.shape == (1, 36)
    assert json.loads((smoke_folder / "training.json").read_text())["steps"] == 2


def test_the_same_seed_and_steps_train_the_same_weights(smoke_folder, tmp_path):
    main(["--output", str(tmp_path / "mini"), "--steps", "2", "--pool-clips", "6", "--measured-videos", "2"])
    first, second = (CLIPModel.from_pretrained(folder).state_dict() for folder in (smoke_folder, tmp_path / "mini"))
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)  # threads may add in another order


def test_a_folder_with_files_is_not_trained_into(tmp_path):
    (tmp_path / "notes.txt").write_text("keep me")
    with pytest.raises(SystemExit) as stop:
        main(["--output", str(tmp_path), "--steps", "1"])
    assert stop.value.code == 2


def test_an_orthogonalized_matrix_has_singular_values_near_one():
    matrices = torch.randn(3, 8, 20, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrices))
    # The quintic does not converge; it keeps values between about 0.7 and 1.2.
    assert 0.6 < values.min() <= values.max() < math.sqrt(1.5)
