"""The embedded CLIP: it loads like any CLIP, it recognizes the objects of KinoShapes, and its training script runs."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel, CLIPTokenizer

from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.classifier import Classifier
from kinoclip.kinoshapes import OBJECTS, kinoshapes_clips
from kinoclip.kinoshapes.figures.benchmark import figure_classes, figure_clips
from kinoclip.methods.auto import mini_clip_path
from kinoclip.text.tokens import tokenize_texts

FOLDER = Path(__file__).parents[2] / "examples" / "embedded_clip"


@pytest.fixture(scope="module")
def script():
    sys.path.insert(0, str(FOLDER))
    yield runpy.run_path(str(FOLDER / "train.py"))
    sys.path.remove(str(FOLDER))


def test_the_folder_loads_completely_like_any_clip():
    model, report = CLIPModel.from_pretrained(mini_clip_path(), output_loading_info=True)
    assert not report["missing_keys"] | report["unexpected_keys"]
    assert model.dtype == torch.float32
    for tower in (model.config.text_config, model.config.vision_config):
        assert tower.num_attention_heads * 64 == tower.hidden_size
    tokenizer = AutoTokenizer.from_pretrained(mini_clip_path())
    assert tokenizer.eos_token_id == len(tokenizer) - 1 == model.config.text_config.eos_token_id
    assert sum(file.stat().st_size for file in mini_clip_path().iterdir()) <= 3_000_000


@pytest.mark.parametrize("text", ["This is a video about purple triangle", "wow!", "naïve café", "日本"])
def test_any_text_is_tokenized_without_loss_and_captions_into_words(text):
    tokenizer = CLIPTokenizer.from_pretrained(mini_clip_path())
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.lower().replace(" ", "")
    assert len(ids) == 9 or "video" not in text  # 7 words, start and end


def test_unseen_clips_are_classified_and_saliency_finds_the_object(script):
    model, tokenizer = (
        CLIPModel.from_pretrained(mini_clip_path()).eval(),
        CLIPTokenizer.from_pretrained(mini_clip_path()),
    )
    scores = script["measure"](model, tokenizer, num_videos=36, seed=1000)
    assert scores["accuracy"] >= 0.9
    assert scores["saliency_hits"] >= 0.95
    assert scores["saliency_mass"] >= scores["frames_inside"] + 0.3


def test_the_image_processor_gives_the_pixels_of_training(script):
    processor = CLIPImageProcessor.from_pretrained(mini_clip_path(), do_normalize=False, do_rescale=False)
    frame = next(kinoshapes_clips(1)).frames[0]
    trained = sys.modules["embedded_clip"].resize_and_crop(torch.from_numpy(frame).permute(2, 0, 1)[None], 48)
    pixels = processor(images=frame, return_tensors="np")["pixel_values"]
    # Both scale with an antialiased bicubic filter; rounding may differ by one or two levels.
    assert np.abs(pixels.astype(int) - trained.numpy().astype(int)).max() <= 2


def test_the_training_script_writes_reproducible_folders_that_load(script, tmp_path):
    sizes = {
        "pool-clips": 4,
        "figure-clips": 3,
        "standing-clips": 2,
        "text-steps": 2,
        "measured-videos": 2,
        "measured-figures": 0,
    }
    words = [word for size, value in sizes.items() for word in (f"--{size}", str(value))]
    for name in ("a", "b"):
        script["main"](["--output", str(tmp_path / name), "--steps", "2", *words])
    script["main"](["--output", str(tmp_path / "c"), "--start", str(tmp_path / "a"), "--minutes", "0", *words])
    first, second, third = (CLIPModel.from_pretrained(tmp_path / name / "clip") for name in ("a", "b", "c"))
    changed = {name for name, weight in third.state_dict().items() if not weight.equal(first.state_dict()[name])}
    assert changed
    assert not any("vision" in name or "visual" in name for name in changed)
    torch.testing.assert_close(first.state_dict(), second.state_dict(), atol=1e-6, rtol=0)  # threads may reorder sums
    assert first.dtype == torch.float32
    input_ids, _ = tokenize_texts(CLIPTokenizer.from_pretrained(tmp_path / "a" / "clip"), OBJECTS)
    output = first(input_ids=input_ids, pixel_values=torch.zeros(1, 3, 48, 48))
    assert output.logits_per_image.shape == (1, 36)
    assert json.loads((tmp_path / "a" / "clip" / "training.json").read_text())["steps"] == 2
    recognizer, _ = load_recognizer(tmp_path / "a")
    assert recognizer(pixel_values_videos=torch.zeros(1, 8, 3, 48, 48)).logits.shape == (1, 29)
    towers = {name: weight for name, weight in recognizer.state_dict().items() if name in first.state_dict()}
    torch.testing.assert_close(towers, first.state_dict(), atol=0, rtol=0)
    with pytest.raises(FileExistsError):
        script["main"](["--output", str(tmp_path / "a"), "--steps", "1"])


def test_the_embedded_recognizer_names_actions_of_unseen_people():
    classifier = Classifier.load("mini-actions")
    assert classifier.set_labels(None) == tuple(action.label for action in figure_classes())
    clips = [clip for clip, _ in figure_clips("actions", "test", 1)]
    right = [classifier.classify(clip.frames).label == clip.label for clip in clips]
    assert np.mean(right) >= 0.8  # 95 % of 580 clips
    folder = mini_clip_path().parent
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 4_000_000
