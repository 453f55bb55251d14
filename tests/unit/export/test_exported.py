"""An export in the place of a model: for a `Classifier`, for spans, and for what it cannot do."""

import shutil

import pytest
import torch

from kinoclip import Classifier
from kinoclip.export import ExportedRecognizer, export_recognizer, load_exported
from kinoclip.export.exported import _cut
from kinoclip.inference.timeline import find_spans
from kinoclip.outputs import FrameFeatures

LABELS = ["red circle", "blue square", "green star"]


@pytest.fixture
def bike(export):
    return export("bike")


@pytest.fixture
def classifier(bike):
    return Classifier(*load_exported(bike.folder))


@pytest.fixture(scope="module")
def fused(make, tmp_path_factory):
    """A model that carries labels, and its one graph."""
    model, processor = make("bike")
    with torch.no_grad():
        model.set_candidates(LABELS, model.encode_text(**processor(text=LABELS)))
    folder = tmp_path_factory.mktemp("fused") / "export"
    list(export_recognizer(model, processor, folder, format="torch", fused=True))
    return model, folder


def test_a_classifier_answers_as_with_the_model(bike, classifier, video_path):
    wanted = Classifier(bike.model, bike.processor).classify(video_path, LABELS)
    found = classifier.classify(video_path, LABELS)
    assert [prediction.label for prediction in found] == [prediction.label for prediction in wanted]
    assert [p.probability for p in found] == pytest.approx([p.probability for p in wanted], abs=1e-5)


def test_spans_are_found_as_with_the_model(bike, classifier, video_path):
    wanted = find_spans(video_path, Classifier(bike.model, bike.processor), LABELS, threshold=0)
    found = find_spans(video_path, classifier, LABELS, threshold=0)
    assert [(span.start_seconds, span.label) for span in found] == [(s.start_seconds, s.label) for s in wanted]


def test_an_export_gives_no_reasons(classifier, video_path):
    with pytest.raises(ValueError, match="gives no reasons"):
        classifier.classify(video_path, LABELS, explain=True)


def test_an_export_does_not_train(classifier):
    with pytest.raises(TypeError, match="does not use labels"):
        classifier.model(pixel_values_videos=torch.zeros(1, 4, 3, 32, 32), labels=torch.zeros(1))


def test_a_part_that_was_left_out_is_named(export):
    recognizer, processor = load_exported(export("text4vis", "torch", ("frames", "head")).folder, trust=True)
    with pytest.raises(ValueError, match="no graph 'text', which encodes labels; it has frames, head"):
        recognizer.encode_text(**processor(text=LABELS))


@torch.no_grad()
def test_text_whose_end_alone_is_read_is_cut_behind_the_longest_label(export):
    recognizer, processor = load_exported(export("actionclip", "torch").folder, trust=True)
    inputs = processor(text=LABELS)
    cut = _cut(dict(inputs))["input_ids"]
    assert cut.shape[-1] < inputs["input_ids"].shape[-1] == 77
    whole = recognizer.graphs["text"](dict(inputs))["text_embeds"]
    torch.testing.assert_close(recognizer.encode_text(**inputs).embeds, whole, atol=1e-5, rtol=1e-4)


def test_frames_of_another_size_are_refused(classifier):
    with pytest.raises(ValueError, match=r"shape \(batch, frames, 3, 32, 32\), not \(1, 4, 3, 48, 48\)"):
        classifier.model.encode_frames(torch.zeros(1, 4, 3, 48, 48))


@torch.no_grad()
def test_frames_alone_need_no_text(make, tmp_path):
    model, processor = make("bike")
    list(export_recognizer(model, processor.video_processor, tmp_path / "export", format="torch", parts=["frames"]))
    recognizer, _ = load_exported(tmp_path / "export", trust=True)
    pixels = torch.randn(1, 2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(recognizer.encode_frames(pixels).embeds, model.encode_frames(pixels).embeds)


@torch.no_grad()
def test_one_graph_answers_for_its_own_labels(fused, video_path):
    model, folder = fused
    recognizer, processor = load_exported(folder, trust=True)
    pixels = torch.randn(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(
        recognizer(pixel_values_videos=pixels).logits, model(pixels).logits, atol=1e-4, rtol=1e-4
    )
    answer = Classifier(recognizer, processor).classify(video_path)
    assert {prediction.label for prediction in answer} == set(LABELS)


def test_one_graph_refuses_other_labels(fused, bike):
    recognizer, processor = load_exported(fused[1], trust=True)
    inputs = processor(text=["yellow heart"])
    with pytest.raises(ValueError, match="Leave other labels out"):
        recognizer(pixel_values_videos=torch.zeros(1, 4, 3, 32, 32), **inputs)


def test_labels_that_are_missing_or_damaged_are_told(fused, tmp_path):
    folder = tmp_path / "copied"
    shutil.copytree(fused[1], folder)
    (folder / "candidates.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match="does not hold the labels that the config names"):
        load_exported(folder, trust=True)
    (folder / "candidates.safetensors").unlink()
    with pytest.raises(ValueError, match="does not hold the labels that the config names"):
        load_exported(folder, trust=True)


def test_graphs_of_torch_are_read_only_on_trust(fused):
    with pytest.raises(ValueError, match="can run any code"):
        ExportedRecognizer(fused[1])


@torch.no_grad()
def test_attributes_and_chinese_names_vote_in_an_export_too(make, tmp_path):
    chinese = {
        "vocab_size": 30,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "pad_token_id": 0,
    }
    model, processor = make("text4vis", attributes="shared", chinese_branch=True, chinese_text_config=chinese)
    list(export_recognizer(model, processor, tmp_path / "export", format="torch", parts=["text", "head"]))
    recognizer, _ = load_exported(tmp_path / "export", trust=True)
    names = torch.randint(1, 30, (1, 3, 52), generator=torch.Generator().manual_seed(3))
    inputs = {
        "frame_features": FrameFeatures(torch.randn(2, 4, 32, generator=torch.Generator().manual_seed(2))),
        **processor(text=LABELS),
        "chinese_input_ids": names,
        "attribute_input_ids": processor.encode_attributes([["red"], ["moving"]]),
    }

    wanted, found = model(**inputs), recognizer(**inputs)

    assert set(found.votes) == {"video", "chinese", "attributes"}
    torch.testing.assert_close(found.logits, wanted.logits, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="give the Chinese names of all labels"):
        recognizer.encode_text(**processor(text=LABELS))
