"""Every method as graphs of ONNX and of torch: the same logits as the model, for sizes it was not traced with."""

import pytest
import torch

from kinoclip.export import load_exported
from kinoclip.methods import METHODS

LABELS = ["walking", "a green star", "jumping over a fence", "sleeping", "waving"]
# methods that take the number of frames of their config only
FIXED = ("dstpr",)
# the text tower of all methods is CLIP's; one that reads every word and one with several templates are enough
WITH_TEXT = (("bike", "onnx"), ("actionclip", "torch"))


@pytest.fixture(
    scope="module", params=[(method, format) for method in METHODS for format in ("onnx", "torch")], ids="-".join
)
def exported(request, export):
    """What was exported, and the same read back."""
    written = export(*request.param, None if request.param in WITH_TEXT else ("frames", "head"))
    return written, load_exported(written.folder, trust=True)[0]


def candidates(written, exported, labels):
    """Give the features of labels by the model and by its export, where that reads them; or those that the model carries."""
    if not written.model.config.reads_text:
        return written.model.candidates(), exported.candidates()
    inputs = written.processor(text=labels)
    text = written.model.encode_text(**inputs)
    return text, exported.encode_text(**inputs) if "text" in exported.graphs else text


@torch.no_grad()
def test_an_export_gives_the_answer_of_its_model_for_other_videos_frames_and_labels(exported):
    written, recognizer = exported
    text, found_text = candidates(written, recognizer, LABELS)
    num_frames = 4 if "dstpr" in written.model.config.model_type else 3
    pixels = torch.randn(5, num_frames, 3, 32, 32, generator=torch.Generator().manual_seed(9))

    wanted = written.model(pixel_values_videos=pixels, text_features=text)
    found = recognizer(pixel_values_videos=pixels, text_features=found_text)

    # the graph holds the same operations in another order; logits are up to 20
    torch.testing.assert_close(found.logits, wanted.logits, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.votes["video"], wanted.votes["video"], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.video_embeds, wanted.video_embeds, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_an_export_takes_one_video_and_one_label(exported):
    written, recognizer = exported
    text, found_text = candidates(written, recognizer, LABELS[:1])
    pixels = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(9))

    wanted = written.model(pixel_values_videos=pixels, text_features=text).logits
    found = recognizer(pixel_values_videos=pixels, text_features=found_text).logits

    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_an_export_says_how_near_it_is_to_its_model(exported):
    written, recognizer = exported
    assert any(line.startswith("largest difference to the model") for line in written.said)
    assert set(recognizer.manifest.difference) == set(recognizer.graphs) - {"head"} | {"logits"}
    assert max(recognizer.manifest.difference.values()) < 1e-4


def test_a_method_that_fixes_the_number_of_frames_says_so(exported):
    written, recognizer = exported
    fixed = "dstpr" in written.model.config.model_type
    assert ("frames: 4 only, which this model fixes" in written.said) == fixed
    assert ("frames" not in recognizer.manifest.graphs["frames"].limits) == fixed


@torch.no_grad()
def test_another_number_of_frames_than_the_fixed_one_is_refused(export):
    recognizer, _ = load_exported(export("dstpr", "torch", ("frames", "head")).folder, trust=True)
    with pytest.raises(ValueError, match=r"takes pixel_values_videos of shape \(batch, 4, 3, 32, 32\), not \(1, 5"):
        recognizer.encode_frames(torch.zeros(1, 5, 3, 32, 32))


@torch.no_grad()
def test_sllm_needs_two_frames_to_restore_what_lies_between(export):
    recognizer, _ = load_exported(export("sllm", "onnx", ("frames", "head")).folder)
    assert recognizer.encode_frames(torch.zeros(1, 2, 3, 32, 32)).embeds.shape == (1, 3, 32)
    with pytest.raises(ValueError, match="frames from 2"):
        recognizer.encode_frames(torch.zeros(1, 1, 3, 32, 32))


@torch.no_grad()
def test_more_labels_than_fit_at_once_are_encoded_in_pieces(export):
    written = export("actionclip", "torch")
    recognizer, processor = load_exported(written.folder, trust=True)
    # two templates, 64 texts at once
    assert recognizer.manifest.graphs["text"].limits["labels"] == (1, 32)
    inputs = processor(text=[f"a star {number}" for number in range(70)])

    found = recognizer.encode_text(**inputs).embeds

    assert found.shape == (2, 70, 32)
    torch.testing.assert_close(found, written.model.encode_text(**inputs).embeds, atol=1e-5, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize(("format", "dtype"), [("onnx", "int8"), ("torch", "bfloat16")])
def test_fewer_bits_say_what_they_cost_and_take_less_room(format, dtype, export):
    whole = export("text4vis", format, ("frames", "head"))
    small = export("text4vis", format, ("frames",), dtype)
    file = load_exported(whole.folder, trust=True)[0].manifest.graphs["frames"].file

    difference = load_exported(small.folder, trust=True)[0].manifest.difference

    assert (small.folder / file).stat().st_size < 0.9 * (whole.folder / file).stat().st_size
    # 8 bits of a weight or of a mantissa: steps of 1/256, several in a row
    assert 1e-4 < difference["frames"] < 0.1
