"""Classify videos in Python."""

import io
import json
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset, Video
from transformers import CLIPConfig, CLIPModel

import kinoclip
from kinoclip import (
    BikeConfig,
    BikeModel,
    BikeProcessor,
    Classifier,
    SllmModel,
    SllmProcessor,
    VideoDecodeError,
)
from kinoclip.inference.attributes import AttributeFinder
from kinoclip.inference.search import embed_videos, search

LABELS = ["red circle", "blue square", "green star"]


def test_one_video_gives_pairs_of_label_and_probability_best_first(classifier, video_path):
    answer = kinoclip.classify(str(video_path), LABELS, model=classifier)
    probabilities = [probability for _, probability in answer]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert answer.label == answer[0].label
    assert len(answer) == 3


def test_the_embedded_model_refuses_labels_that_it_does_not_know_wherever_they_are_encoded(video_path):
    classifier = Classifier.load("mini")
    uses = [lambda label: classifier.classify(video_path, ["red circle", label]), classifier.encode_text]
    for use in (*uses, lambda label: search(embed_videos([video_path], model=classifier, pooling="mean"), label)):
        use("blue square")
        with pytest.raises(ValueError, match="not 'diving' in the label 'diving'"):
            use("diving")


def test_an_answer_names_the_model_and_its_revision(classifier, video_path, monkeypatch):
    named = Classifier(classifier.model, classifier.processor, "org/bike")
    monkeypatch.setattr("kinoclip.methods.auto.read_revision", {"org/bike": "0123456789abcdef"}.get)
    answer = named.classify(video_path, LABELS, explain=True)
    assert answer.model == answer.to_dict()["model"] == "org/bike@01234567"
    assert "model org/bike@01234567" in answer._repr_html_()
    monkeypatch.setattr("kinoclip.methods.auto.read_revision", lambda _: None)
    assert named.classify(video_path, LABELS).model == "org/bike"


def test_the_default_model_is_a_real_clip(video_path):
    with pytest.raises(ValueError, match=r"openai/clip-vit-base-patch32, .* could not be fetched from the hub"):
        kinoclip.classify(video_path, LABELS)


def test_a_list_of_videos_gives_a_list_of_answers_with_top_k_labels(classifier, video_path):
    answers = kinoclip.classify([str(video_path)], LABELS, model=classifier)
    assert [answer.video for answer in answers] == [str(video_path)]
    assert len(kinoclip.classify(str(video_path), LABELS, model=classifier, top_k=2)) == 2


@pytest.mark.parametrize(
    "open_source",
    [str, lambda path: path, lambda path: path.read_bytes(), lambda path: io.BytesIO(path.read_bytes())],
    ids=["text", "path", "bytes", "file"],
)
def test_every_kind_of_source_gives_the_same_answer(classifier, video_path, open_source):
    expected = kinoclip.classify(str(video_path), LABELS, model=classifier)
    assert kinoclip.classify(open_source(video_path), LABELS, model=classifier).predictions == expected.predictions


def test_an_array_without_a_clock_has_no_timestamps(classifier):
    answer = kinoclip.classify(np.zeros((9, 40, 40, 3), np.uint8), LABELS, model=classifier)
    assert answer.timestamps is None
    assert answer.duration_seconds is None
    assert answer.video is None


def test_an_explanation_holds_one_weight_per_frame_that_sums_to_one(classifier, video_path):
    answer = kinoclip.classify(str(video_path), LABELS, model=classifier, explain=True)
    assert {len(weights) for weights in answer.saliency.values()} == {8}
    assert sum(answer.saliency[answer.label]) == pytest.approx(1, abs=1e-5)
    assert answer.frames.shape == (8, 3, 48, 48)


def test_an_explanation_covers_the_frames_of_all_clips_in_the_first_crop(clip_folder, video_path):
    classifier = Classifier.load(clip_folder)
    classifier.video_processor.num_clips, classifier.video_processor.num_crops = 2, 3
    answer = classifier.classify(str(video_path), LABELS, explain=True)
    assert len(answer.saliency[answer.label]) == len(answer.frame_indices) == 16
    assert sum(answer.saliency[answer.label]) == pytest.approx(1, abs=1e-5)
    # 48 pixels in patches of 8, for the frames of both clips in the first crop
    assert answer.attention.shape == (16, 6, 6)
    torch.testing.assert_close(answer.attention.sum((1, 2)), torch.ones(16))
    first = classifier.video_processor.sample(str(video_path)).pixel_values[:2]
    frames = classifier.model.encode_frames(first)
    expected = classifier.model.explain(frames, classifier._text, first).attention.flatten(0, 1)
    torch.testing.assert_close(answer.attention, expected, atol=1e-6, rtol=1e-5)


def test_an_explanation_changes_no_probability_and_is_computed_on_request_only(classifier, video_path, monkeypatch):
    explained = classifier.classify(str(video_path), LABELS, explain=True)
    monkeypatch.setattr(classifier.model, "explain", None)
    assert classifier.classify(str(video_path), LABELS).predictions == explained.predictions


def test_text_is_encoded_once_for_the_same_labels(classifier, video_path, monkeypatch):
    classifier.classify(str(video_path), LABELS)

    def refuse(*_, **__):
        raise AssertionError("the text tower ran again")

    monkeypatch.setattr(classifier.model, "encode_text", refuse)
    classifier.classify(str(video_path), LABELS)


def test_labels_can_change_between_videos(classifier, video_path):
    first = classifier.classify(str(video_path), LABELS)
    other = classifier.classify(str(video_path), ["one", "two"])
    assert {label for label, _ in other} == {"one", "two"}
    assert classifier.classify(str(video_path), LABELS).predictions == first.predictions


def test_labels_of_the_checkpoint_are_used_when_none_are_given(clip_folder, video_path):
    classifier = Classifier.load(clip_folder)
    with torch.inference_mode():
        text = classifier.model.encode_text(**classifier.processor(text=LABELS))
    classifier.model.set_candidates(LABELS, text)
    expected = classifier.classify(str(video_path), LABELS)
    classifier.processor.tokenizer = None
    own = Classifier(classifier.model, classifier.processor).classify(str(video_path))
    assert own.predictions == expected.predictions


@pytest.mark.parametrize(
    ("labels", "said"),
    [([], "Labels are missing"), (["a", "a"], "given twice"), ([""], "non-empty"), (["x " * 99], "77")],
)
def test_bad_labels_are_an_error_before_any_decoding(classifier, labels, said):
    with pytest.raises(ValueError, match=said):
        kinoclip.classify("no such file.mp4", labels, model=classifier)


@pytest.mark.parametrize(
    ("video", "options", "error", "said"),
    [
        ("none.mp4", {}, FileNotFoundError, r"none\.mp4"),
        (b"\0" * 1000, {}, VideoDecodeError, "cannot open"),
        ("{video}", {"top_k": 0}, ValueError, "top_k must be at least 1, got 0"),
        ("{video}", {"labels": None}, ValueError, "carries no labels"),
    ],
)
def test_wrong_arguments_are_errors(classifier, video_path, video, options, error, said):
    video = str(video_path) if video == "{video}" else video
    with pytest.raises(error, match=said):
        kinoclip.classify(video, **{"labels": LABELS, **options}, model=classifier)


def test_attributes_are_found_in_the_lexicon_and_vote(clip_folder, video_path):
    plain = Classifier.load(clip_folder).classify(str(video_path), LABELS)
    described = Classifier.load(clip_folder, lexicon=["red", "blue", "star", "square", "circle", "gray"])
    answer = described.classify(str(video_path), LABELS)
    assert len(answer.attributes) == 5
    assert answer.predictions != plain.predictions


def test_a_lexicon_needs_an_attributes_branch(clip_folder, bike_folder):
    with pytest.raises(ValueError, match="no attributes branch"):
        Classifier.load(bike_folder, lexicon=["red", "blue"], lexicon_clip=clip_folder)


LEXICON = ["red", "blue", "star", "square", "circle", "gray", "large", "moving"]


@pytest.fixture
def larger_clip(tiny_fields, tokenizer, tmp_path):
    """A folder of a CLIP of random weights that reads images of 64 pixels."""
    torch.manual_seed(3)
    vision = {**tiny_fields["vision_config"], "image_size": 64}
    fields = {"text_config": tiny_fields["text_config"], "projection_dim": tiny_fields["projection_dim"]}
    CLIPModel(CLIPConfig(**fields, vision_config=vision)).save_pretrained(tmp_path / "larger")
    tokenizer.save_pretrained(tmp_path / "larger")
    return tmp_path / "larger"


@pytest.mark.parametrize("wrapped", [False, True], ids=["alone", "under SLLM"])
def test_a_lexicon_clip_sees_frames_of_its_own_size_and_all_of_them(
    tiny_fields, tokenizer, larger_clip, video_path, wrapped
):
    torch.manual_seed(0)
    model = BikeModel(BikeConfig(**tiny_fields, attributes="shared")).eval()
    processor_class = BikeProcessor
    if wrapped:
        model, processor_class = SllmModel.from_recognizer(model, rate=2).eval(), SllmProcessor
    processor = processor_class.for_config(model.config, tokenizer)
    finder = AttributeFinder.load(larger_clip, LEXICON)
    classifier = Classifier(model, processor, attributes=finder)
    sample = classifier.read(str(video_path))
    assert sample.pixel_values.shape == (1, 2 if wrapped else 4, 3, 32, 32)
    assert sample.attribute_pixels.shape == (1, 8, 3, 64, 64)
    with video_path.open("rb") as file:
        for source in (str(video_path), file):
            answer = kinoclip.classify(source, LABELS, model=classifier)
            assert answer.attributes == finder.find(str(video_path))


def test_as_many_attributes_are_found_as_the_processor_reads(bike_folder_with_attributes, clip_folder, video_path):
    found = Classifier.load(bike_folder_with_attributes, lexicon=LEXICON, lexicon_clip=clip_folder)
    assert len(found.classify(str(video_path), LABELS).attributes) == 3


@pytest.fixture
def bike_folder_with_attributes(tiny_fields, tokenizer, tmp_path):
    model = BikeModel(BikeConfig(**tiny_fields, attributes="shared"))
    model.save_pretrained(tmp_path / "bike")
    BikeProcessor.for_config(model.config, tokenizer, num_attributes=3).save_pretrained(tmp_path / "bike")
    return tmp_path / "bike"


def test_bfloat16_gives_nearly_the_same_probabilities(clip_folder, classifier, video_path):
    exact = dict(classifier.classify(str(video_path), LABELS))
    half = dict(Classifier.load(clip_folder, dtype=torch.bfloat16).classify(str(video_path), LABELS))
    # bfloat16 has 8 bits; cosines are scaled by up to 100 before the softmax
    assert half == pytest.approx(exact, abs=0.15)


def test_videos_and_texts_can_be_encoded_and_compared(classifier, video_path):
    videos = classifier.encode_video([video_path, str(video_path)])
    texts = classifier.encode_text(LABELS)
    assert (videos.shape, texts.shape) == ((2, 128), (3, 128))
    torch.testing.assert_close(torch.cat([videos, texts]).norm(dim=-1), torch.ones(5))
    similarity = classifier.similarity(videos, texts)
    torch.testing.assert_close(similarity, videos @ texts.T)
    assert LABELS[similarity[0].argmax()] == classifier.predict(video_path, LABELS).label


def test_an_answer_is_data_and_a_table_or_the_page_of_its_explanation(classifier, video_path):
    answers = classifier.classify([video_path, video_path], LABELS, top_k=2)
    assert json.loads(json.dumps(answers[0].to_dict()))["label"] == answers[0].label
    assert answers.to_dataframe()["rank"].tolist() == [1, 2, 1, 2]
    assert "<td>" in answers._repr_html_()
    page = classifier.classify(video_path, LABELS, explain=True)._repr_html_()
    assert page.startswith("<iframe srcdoc=")
    assert "kc-film" in page
    assert len(repr(classifier)) < 120


def test_a_pattern_names_many_videos_and_an_existing_file_itself(classifier, video_path, tmp_path):
    for name in ("b.mp4", "a.mp4", "[c].mp4"):
        shutil.copy(video_path, tmp_path / name)
    answers = kinoclip.classify(f"{tmp_path}/?.mp4", LABELS, model=classifier)
    assert [answer.video for answer in answers] == [f"{tmp_path}/a.mp4", f"{tmp_path}/b.mp4"]
    assert kinoclip.classify(f"{tmp_path}/[c].mp4", LABELS, model=classifier).video == f"{tmp_path}/[c].mp4"
    with pytest.raises(FileNotFoundError, match="No file matches"):
        kinoclip.classify(f"{tmp_path}/*.avi", LABELS, model=classifier)


def test_columns_of_datasets_are_videos(classifier, video_path):
    rows = Dataset.from_dict({"video": [str(video_path)] * 2}).cast_column("video", Video(decode=False))
    stored = classifier.classify(rows["video"], LABELS)
    streamed = classifier.classify((row["video"] for row in rows.to_iterable_dataset()), LABELS)
    expected = classifier.classify([video_path] * 2, LABELS)
    for answers in (stored, streamed):
        assert [answer.predictions for answer in answers] == [answer.predictions for answer in expected]
