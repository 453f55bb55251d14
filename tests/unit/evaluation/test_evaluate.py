"""Measure a recognizer on a data set."""

import copy
import json
from dataclasses import replace

import av
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value, Video

from kinoclip.evaluation.evaluate import evaluate, find_candidates
from kinoclip.evaluation.probe import probe
from kinoclip.evaluation.protocols import PROTOCOLS
from kinoclip.evaluation.report import Report, measure, share_interval, summarize, summary_lines
from kinoclip.inference.backends import load_recognizer
from kinoclip.inference.classifier import Classifier
from kinoclip.kinoshapes import kinoshapes_dataset
from kinoclip.kinoshapes.benchmark import benchmark_dataset
from kinoclip.modeling.processing import RecognizerProcessor


@pytest.fixture(scope="module")
def mini():
    return load_recognizer("mini")


@pytest.fixture(scope="module")
def branched():
    """The embedded model with the attributes branch that needs no training."""
    return load_recognizer("mini", attributes=True)


@pytest.fixture(scope="module")
def colors():
    return kinoshapes_dataset(20, split="test", label="color")


@pytest.fixture(scope="module")
def named(colors):
    return colors.select(range(3)).add_column("name", ["a", "b", "c"])


@pytest.fixture(scope="module")
def report(mini, colors):
    return evaluate(*mini, colors, name="mini", dataset_name="colors")


def _broken(dataset, row):
    rows = dataset.to_list()
    rows[row]["video"]["bytes"] = b"no video"
    return Dataset.from_list(rows, features=dataset.features)


PHRASES = {"a": ["red", "a circle"], "b": ["blue"], "c": ["green", "spinning"]}


def test_accuracy_is_the_share_of_videos_that_classify_labels_correctly(mini, report, colors):
    classifier, names = Classifier(*mini), colors.features["label"].names
    right = [classifier.classify(row["video"]["bytes"], names)[0].label == names[row["label"]] for row in colors]
    assert report.metrics["top1"] == pytest.approx(sum(right) / 20)
    assert report.num_videos == 20


def test_the_training_mode_of_the_model_is_restored(mini, named):
    model, processor = mini
    model.train()
    evaluate(model, processor, named)
    assert model.training
    model.eval()


def test_scores_do_not_depend_on_the_batch_size_and_workers(mini, report, colors):
    other = evaluate(*mini, colors, batch_size=3, num_workers=1)
    torch.testing.assert_close(report.scores, other.scores, atol=1e-5, rtol=0)  # batches sum in another order
    assert report.names == other.names


def test_an_unreadable_video_is_listed_and_in_no_metric(mini, named):
    found = evaluate(*mini, _broken(named, 1))
    assert found.num_videos == 2
    assert list(found.failures) == ["b"]
    assert found.names == ("a", "c")
    with pytest.raises(ValueError, match="None of the 1 videos could be read"):
        evaluate(*mini, _broken(named.select([0]), 0))


def test_classes_are_matched_with_the_checkpoints_own_by_name(report, colors):
    model, processor = load_recognizer("mini")
    names = colors.features["label"].names
    model.set_candidates(names[::-1], model.encode_text(**processor(text=names[::-1])))
    text, columns = find_candidates(model, processor, names)
    torch.testing.assert_close(text.embeds, model.candidate_embeds)
    assert columns == list(range(len(names)))[::-1]
    assert evaluate(model, processor, colors).metrics == report.metrics


def test_new_classes_need_a_tokenizer(mini):
    processor = RecognizerProcessor(video_processor=mini[1].video_processor)
    with pytest.raises(ValueError, match=r"carries no class 'juggling' \(1 of 1 are missing\)"):
        find_candidates(mini[0], processor, ["juggling"])


def test_several_labels_per_video_are_measured_by_average_precision(mini, colors):
    features = Features({"video": Video(decode=False), "label": List(ClassLabel(names=["red", "blue", "green"]))})
    rows = [{"video": row["video"], "label": [i % 3, (i + 1) % 3]} for i, row in enumerate(colors.to_list()[:6])]
    dataset = Dataset.from_list(rows, features=features)
    found = evaluate(*mini, dataset)
    assert set(found.metrics) == {"map"}
    assert found.targets.sum(1).tolist() == [2] * 6
    assert "average_precision" in found.per_class[0]
    with pytest.raises(ValueError, match="one label each"):
        evaluate(*mini, dataset, class_lists={"some": ["red"]})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_returns_scores_of_its_views(branched, named, colors, protocol):
    rules = PROTOCOLS[protocol]
    videos = colors if rules.classes == "halves" else named.select([0])  # each half needs videos
    found = evaluate(*branched, videos, protocol, attributes=PHRASES if rules.needs_attributes else None)
    assert found.scores.shape == (len(videos), 6)
    assert (found.protocol["name"], found.protocol["num_crops"]) == (protocol, rules.num_crops)


def test_halves_are_scored_over_their_own_classes(mini, colors):
    metrics = evaluate(*mini, colors, "halves").metrics
    assert metrics["half_top1_mean"] >= metrics["top1"]


def test_a_saved_report_is_read_again(report, tmp_path):
    again = Report.load(report.save(tmp_path / "deep" / "report.json"))
    assert again.metrics == report.metrics
    assert json.loads(again.to_json())["protocol"]["title"] == "one clip, center crop"
    assert again.settings["versions"]["av"] == av.__version__
    (tmp_path / "other.json").write_text('{"top1": 1}')
    with pytest.raises(ValueError, match="is not a report of an evaluation"):
        Report.load(tmp_path / "other.json")


def test_the_confusion_matrix_counts_true_classes_in_rows(report):
    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert replace(report, scores=scores, targets=torch.tensor([0, 0, 1])).confusion().tolist() == [[1, 1], [0, 1]]


def test_metrics_of_three_videos():
    # right, wrong, right: 2 of 3; class 0 has 1 of 2, class 1 has 1 of 1, class 2 has no video
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    metrics, intervals = measure(scores, torch.tensor([0, 0, 1]))
    assert metrics["top1"] == pytest.approx(2 / 3)
    assert metrics["mean_class_accuracy"] == pytest.approx(0.75)
    assert intervals["top1"][0] < 2 / 3 < intervals["top1"][1]
    # center 0.5; (1.96 / (1 + 0.38414)) * sqrt(0.025 + 0.0096) = 0.2634
    assert share_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_folds_are_averaged_with_the_population_deviation(report):
    reports = [replace(report, metrics={"top1": value}) for value in (0.5, 0.7)]
    found = summarize(reports)["top1"]
    # sample deviation 0.1 * sqrt(2), over sqrt(2) runs 0.1; t of one degree of freedom is 12.706
    assert found.pop("interval") == (pytest.approx(0.6 - 1.2706), pytest.approx(0.6 + 1.2706))
    assert found == {"mean": 0.6, "std": pytest.approx(0.1), "values": [0.5, 0.7]}
    assert "interval" not in summarize([{"top1": 0.5}])["top1"]
    assert summary_lines(reports)[1].split()[:4] == ["top1", "60.00%", "+-", "10.00%"]


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_a_probe_learns_colors_from_frozen_features(mini, colors, kind):
    metrics, _ = probe(*mini, kinoshapes_dataset(40, split="train", label="color"), colors, kind)
    assert metrics["top1"] > 0.6  # chance is one of eight


def test_a_probe_needs_the_same_classes(mini, colors):
    with pytest.raises(ValueError, match="must be the same"):
        probe(*mini, kinoshapes_dataset(2, label="verb"), colors)


def test_labels_without_class_names_are_refused(mini, colors):
    with pytest.raises(ValueError, match="no column `label` of classes"):
        evaluate(*mini, colors.cast_column("label", Value("int64")))


def test_the_coverage_of_a_report_depends_on_its_videos(mini):
    videos = benchmark_dataset(split="test", clips_per_class=1)
    first, other = (evaluate(*mini, videos.select(range(n))).settings["coverage"] for n in (3, 4))
    assert first["found"] == 3
    assert first["fingerprint"] != other["fingerprint"]


def test_attributes_change_the_scores(branched, named):
    names = named.features["label"].names
    wrong = {row["name"]: [names[(row["label"] + 1) % 6]] for row in named}
    plain, misled = (evaluate(*branched, named, attributes=attributes) for attributes in (None, wrong))
    right, fooled = (found.scores.gather(1, found.targets[:, None]).mean() for found in (plain, misled))
    assert fooled < right


def test_fused_views_are_those_of_an_independent_implementation(branched, named):
    model, processor = branched
    videos = [row["video"]["bytes"] for row in named]
    views = processor(text=named.features["label"].names, videos=videos, num_clips=4, num_crops=3)
    ids = processor(attributes=[PHRASES[name] for name in "abc" for _ in range(12)])
    with torch.no_grad():
        votes = model(**{k: v for k, v in views.items() if k != "video_metadata"}, **ids).votes
    video = votes["video"].unflatten(0, (3, 12)).softmax(-1).mean(1)
    expected = 0.7 * video + 0.3 * votes["attributes"][::12].softmax(-1)
    found = evaluate(*branched, named, "bike_fused_multi_view", attributes=PHRASES)
    torch.testing.assert_close(found.scores, expected, atol=1e-6, rtol=0)
    assert found.settings["num_attributes"] == 5


def test_the_attributes_alone_are_scored_without_reading_a_video(branched, named):
    found = evaluate(*branched, _broken(named, 0), "bike_attributes", attributes=PHRASES)
    fused = evaluate(*branched, named, "bike_fused", attributes=PHRASES)
    video = evaluate(*branched, named, "bike_single_view")
    assert found.num_videos == 3
    # one view: the video branch's probabilities are the logarithm of the second softmax, up to a constant
    probabilities = (fused.scores - 0.3 * found.scores) / 0.7
    torch.testing.assert_close(probabilities.softmax(-1), video.scores, atol=1e-6, rtol=0)


def test_num_attributes_of_the_processor_limits_the_phrases(branched, named, monkeypatch):
    monkeypatch.setattr(branched[1], "num_attributes", 1)
    more = {name: [*phrases, "yellow", "square"] for name, phrases in PHRASES.items()}
    best = {name: phrases[:1] for name, phrases in PHRASES.items()}
    found, expected = (evaluate(*branched, named, "bike_attributes", attributes=phrases) for phrases in (more, best))
    torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.parametrize(
    ("protocol", "attributes", "message"),
    [
        ("bike_single_view", PHRASES, r"'bike_single_view' does not read attributes.*single_view, .*bike_fused"),
        ("text4vis_single_view", PHRASES, "'text4vis_single_view' does not read attributes"),
        ("bike_attributes", None, "'bike_attributes' scores the attributes"),
        ("bike_fused_multi_view", None, "'bike_fused_multi_view' scores the attributes"),
        ("bike_fused", {"a": ["red"]}, "2 of 3 videos have no attributes, first b"),
    ],
)
def test_attributes_are_given_exactly_where_they_are_read(branched, mini, named, protocol, attributes, message):
    with pytest.raises(ValueError, match=message):
        evaluate(*branched, named, protocol, attributes=attributes)
    with pytest.raises(ValueError, match="no attributes branch"):
        evaluate(*mini, named, attributes={})


def test_x_clips_three_crops_see_the_full_short_side(mini, colors):
    model, processor = mini
    seen = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["pixel_values_videos"]), with_kwargs=True
    )
    wider = copy.copy(processor.video_processor)
    wider.size = {"shortest_edge": 2 * wider.crop_size["height"]}
    for video_processor in (wider, processor.video_processor):
        evaluate(
            model, RecognizerProcessor(video_processor, processor.tokenizer), colors.select([0]), "xclip_three_crops"
        )
    handle.remove()
    full = copy.copy(wider)
    full.size = {"shortest_edge": full.crop_size["height"]}
    center = full.sample(colors[0]["video"]["bytes"]).pixel_values[0]
    assert seen[0].shape[0] == 3
    # the third crop is the middle one; the processor's own resize does not matter, and stays as it is
    torch.testing.assert_close(seen[0][2], center)
    torch.testing.assert_close(seen[0], seen[1])
    assert wider.size == {"shortest_edge": 2 * wider.crop_size["height"]}


@pytest.mark.parametrize(
    ("selection", "text"),
    [("last", "weights of the last epoch"), ("test", "biased upwards"), ("validation", "held-out validation videos")],
)
def test_a_report_names_the_selection_of_the_weights(report, selection, text):
    assert text in replace(report, settings={"selection": selection}).lines()[-1]
