"""Measuring a recognizer on a data set."""

import copy
import json
from dataclasses import replace

import av
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, List, Value, Video

from kinoclip.data.kinoshapes import kinoshapes_dataset
from kinoclip.data.kinoshapes.benchmark import benchmark_dataset
from kinoclip.evaluation.evaluate import evaluate, find_candidates
from kinoclip.evaluation.probing import probe
from kinoclip.evaluation.protocols import PROTOCOLS
from kinoclip.evaluation.report import Report, measure, share_interval, summarize, summary_lines
from kinoclip.inference.classify import classify
from kinoclip.inference.loading import load_recognizer
from kinoclip.processing import RecognizerProcessor


@pytest.fixture(scope="module")
def mini():
    return load_recognizer("mini")


@pytest.fixture(scope="module")
def colors():
    return kinoshapes_dataset(20, split="test", label="color")


def test_accuracy_is_the_share_of_videos_that_classify_names_rightly(mini, colors):
    report = evaluate(*mini, colors)

    names = colors.features["label"].names
    right = [classify(row["video"]["bytes"], names)[0].label == names[row["label"]] for row in colors]
    assert report.metrics["top1"] == pytest.approx(sum(right) / 20)
    assert report.num_videos == 20


def test_the_model_keeps_the_mode_it_came_in(mini, colors):
    model, processor = mini
    model.train()
    evaluate(model, processor, colors.select(range(2)))

    assert model.training
    model.eval()


def test_the_batch_size_and_workers_change_nothing(mini, colors):
    one = evaluate(*mini, colors, batch_size=3)
    other = evaluate(*mini, colors, batch_size=20, num_workers=1)

    torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=0)  # batches sum in another order
    assert one.names == other.names


def test_a_broken_video_is_listed_and_in_no_metric(mini, colors):
    rows = colors.to_list()[:4]
    rows[1]["video"]["bytes"] = b"no video at all"
    broken = Dataset.from_list(rows, features=colors.features).add_column("name", ["a.mp4", "b.mp4", "c.mp4", "d.mp4"])

    report = evaluate(*mini, broken)

    assert report.num_videos == 3
    assert list(report.failures) == ["b.mp4"]
    assert report.names == ("a.mp4", "c.mp4", "d.mp4")


def test_a_data_set_without_a_readable_video_is_an_error(mini, colors):
    rows = colors.to_list()[:1]
    rows[0]["video"]["bytes"] = b"no video at all"

    with pytest.raises(ValueError, match="None of the 1 videos could be read"):
        evaluate(*mini, Dataset.from_list(rows, features=colors.features))


def test_classes_are_matched_with_the_checkpoints_own_by_name(mini, colors):
    model, processor = load_recognizer("mini")
    names = colors.features["label"].names
    backwards = names[::-1]
    model.set_candidates(backwards, model.encode_text(**processor(text=backwards)))

    text, columns = find_candidates(model, processor, names)

    torch.testing.assert_close(text.embeds, model.candidate_embeds)
    assert columns == list(range(len(names)))[::-1]
    assert evaluate(model, processor, colors).metrics == evaluate(*mini, colors).metrics


def test_new_classes_need_a_tokenizer(mini):
    model, processor = mini
    with pytest.raises(ValueError, match="carries no class 'juggling' \\(1 of 1 are missing\\)"):
        find_candidates(model, processor.video_processor, ["juggling"])


def test_several_labels_per_video_are_measured_by_average_precision(mini, colors):
    features = Features({"video": Video(decode=False), "label": List(ClassLabel(names=["red", "blue", "green"]))})
    rows = [{"video": row["video"], "label": [i % 3, (i + 1) % 3]} for i, row in enumerate(colors.to_list()[:6])]

    report = evaluate(*mini, Dataset.from_list(rows, features=features))

    assert set(report.metrics) == {"map"}
    assert report.targets.sum(1).tolist() == [2] * 6
    assert "average_precision" in report.per_class[0]


def test_every_protocol_gives_its_scores(mini, colors):
    few = colors.select(range(12)).add_column("name", [str(number) for number in range(12)])
    branched, phrases = load_recognizer("mini", attributes=True), {str(number): ["red"] for number in range(12)}
    shapes = {
        name: evaluate(*branched, few, name, attributes=phrases if rules.needs_attributes else None).scores.shape
        for name, rules in PROTOCOLS.items()
    }

    assert set(shapes.values()) == {(12, len(colors.features["label"].names))}


def test_halves_are_scored_over_their_own_classes(mini, colors):
    report = evaluate(*mini, colors, "halves")

    assert report.metrics["half_top1_mean"] >= report.metrics["top1"]


def test_an_unknown_protocol_is_named(mini, colors):
    with pytest.raises(ValueError, match="There is no protocol 'tripple_view'"):
        evaluate(*mini, colors, "tripple_view")


def test_a_saved_report_is_read_again(mini, colors, tmp_path):
    report = evaluate(*mini, colors, name="mini", dataset_name="colors")

    again = Report.load(report.save(tmp_path / "deep" / "report.json"))

    assert again.metrics == report.metrics
    assert json.loads(again.to_json())["protocol"]["title"] == "one clip, center crop"
    assert again.settings["versions"]["av"] == av.__version__


def test_a_file_that_is_no_report_is_refused(tmp_path):
    path = tmp_path / "report.json"
    path.write_text('{"top1": 1}')

    with pytest.raises(ValueError, match="is no report of an evaluation"):
        Report.load(path)


def test_the_confusion_matrix_counts_true_classes_in_rows(mini, colors):
    report = replace(
        evaluate(*mini, colors.select(range(2))),
        scores=torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]]),
        targets=torch.tensor([0, 0, 1]),
    )

    assert report.confusion().tolist() == [[1, 1], [0, 1]]


def test_metrics_of_three_videos():
    # right, wrong, right: 2 of 3; class 0 has 1 of 2, class 1 has 1 of 1, class 2 has no video
    scores = torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1]])
    metrics, intervals = measure(scores, torch.tensor([0, 0, 1]))

    assert metrics["top1"] == pytest.approx(2 / 3)
    assert metrics["mean_class_accuracy"] == pytest.approx(0.75)
    assert intervals["top1"][0] < 2 / 3 < intervals["top1"][1]


def test_the_interval_of_half_of_ten_is_wilsons():
    # center 0.5; (1.96 / (1 + 0.38414)) * sqrt(0.025 + 0.0096) = 0.2634
    assert share_interval(0.5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)


def test_folds_are_averaged_with_the_population_deviation(mini, colors):
    report = evaluate(*mini, colors.select(range(2)))
    reports = [replace(report, metrics={"top1": value}) for value in (0.5, 0.7)]

    found = summarize(reports)["top1"]
    # sample deviation 0.1 * sqrt(2), over sqrt(2) runs 0.1; t of one degree of freedom is 12.706
    assert found.pop("interval") == (pytest.approx(0.6 - 1.2706), pytest.approx(0.6 + 1.2706))
    assert found == {"mean": 0.6, "std": pytest.approx(0.1), "values": [0.5, 0.7]}
    assert "interval" not in summarize([{"top1": 0.5}])["top1"]
    assert summary_lines(reports)[1].split()[:4] == ["top1", "60.00%", "+-", "10.00%"]


@pytest.mark.parametrize("kind", ["linear", "knn"])
def test_a_probe_learns_colors_from_frozen_features(mini, colors, kind):
    train = kinoshapes_dataset(40, split="train", label="color")

    metrics, _ = probe(*mini, train, colors, kind)

    assert metrics["top1"] > 0.6  # chance is one of eight


def test_a_probe_refuses_other_classes(mini, colors):
    verbs = kinoshapes_dataset(2, label="verb")

    with pytest.raises(ValueError, match="differ"):
        probe(*mini, verbs, colors)


def test_a_data_set_of_numbers_without_names_is_refused(mini, colors):
    unnamed = colors.cast_column("label", Value("int64"))

    with pytest.raises(ValueError, match="no column `label` of classes"):
        evaluate(*mini, unnamed)


def test_a_report_says_which_videos_it_was_measured_on(mini):
    videos = benchmark_dataset(split="test", clips_per_class=1)

    first, other = (evaluate(*mini, videos.select(range(n))).settings["coverage"] for n in (3, 4))

    assert first["found"] == 3
    assert first["fingerprint"] != other["fingerprint"]


def test_attributes_vote_too(colors):
    model, processor = load_recognizer("mini", attributes=True)
    named = colors.select(range(4)).add_column("name", ["a", "b", "c", "d"])
    names = colors.features["label"].names
    wrong = {name: [names[(row["label"] + 1) % 6]] for name, row in zip("abcd", named, strict=True)}

    plain = evaluate(model, processor, named)
    misled = evaluate(model, processor, named, attributes=wrong)

    assert (
        misled.scores.gather(1, plain.targets[:, None]).mean() < plain.scores.gather(1, plain.targets[:, None]).mean()
    )


def test_a_video_without_attributes_is_named(colors):
    named = colors.select(range(2)).add_column("name", ["a", "b"])

    with pytest.raises(ValueError, match="1 of 2 videos have no attributes, first b"):
        evaluate(*load_recognizer("mini", attributes=True), named, attributes={"a": ["red"]})


def test_attributes_need_a_branch_for_them(mini, colors):
    with pytest.raises(ValueError, match="no attributes branch"):
        evaluate(*mini, colors.select(range(1)), attributes={})


@pytest.fixture(scope="module")
def branched():
    """The embedded model with the attributes branch that needs no training."""
    return load_recognizer("mini", attributes=True)


@pytest.fixture(scope="module")
def named(colors):
    return colors.select(range(3)).add_column("name", ["a", "b", "c"])


PHRASES = {"a": ["red", "a circle"], "b": ["blue"], "c": ["green", "spinning"]}


def test_fused_views_are_those_of_an_independent_statement(branched, named):
    model, processor = branched
    names = named.features["label"].names
    videos = [row["video"]["bytes"] for row in named]
    views = processor(text=names, videos=videos, num_clips=4, num_crops=3)
    ids = processor(attributes=[PHRASES[name] for name in "abc" for _ in range(12)])
    with torch.no_grad():
        votes = model(**{k: v for k, v in views.items() if k != "video_metadata"}, **ids).votes
    video = votes["video"].unflatten(0, (3, 12)).softmax(-1).mean(1)
    expected = 0.7 * video + 0.3 * votes["attributes"][::12].softmax(-1)

    found = evaluate(*branched, named, "bike_fused_multi_view", attributes=PHRASES)

    torch.testing.assert_close(found.scores, expected, atol=1e-6, rtol=0)
    assert found.settings["num_attributes"] == 5


def test_the_attributes_alone_are_scored_without_reading_a_video(branched, named):
    rows = named.to_list()
    rows[0]["video"]["bytes"] = b"no video at all"
    broken = Dataset.from_list(rows, features=named.features)

    report = evaluate(*branched, broken, "bike_attributes", attributes=PHRASES)

    fused = evaluate(*branched, named, "bike_fused", attributes=PHRASES)
    video = evaluate(*branched, named, "bike_single_view")
    assert report.num_videos == 3
    # one view: the video branch's probabilities are the logarithm of the second softmax, up to a constant
    probabilities = (fused.scores - 0.3 * report.scores) / 0.7
    torch.testing.assert_close(probabilities.softmax(-1), video.scores, atol=1e-6, rtol=0)


def test_as_many_phrases_are_read_as_the_processor_takes(branched, named, monkeypatch):
    processor = branched[1]
    more = {name: [*phrases, "yellow", "square"] for name, phrases in PHRASES.items()}
    monkeypatch.setattr(processor, "num_attributes", 1)
    best = {name: phrases[:1] for name, phrases in PHRASES.items()}

    found, expected = (evaluate(*branched, named, "bike_attributes", attributes=one) for one in (more, best))

    torch.testing.assert_close(found.scores, expected.scores)


@pytest.mark.parametrize(
    ("protocol", "attributes", "said"),
    [
        ("bike_single_view", PHRASES, r"'bike_single_view' does not read attributes.*single_view, .*bike_fused"),
        ("text4vis_single_view", PHRASES, "'text4vis_single_view' does not read attributes"),
        ("bike_attributes", None, "'bike_attributes' scores the attributes"),
        ("bike_fused_multi_view", None, "'bike_fused_multi_view' scores the attributes"),
        ("bike_fused", {"a": ["red"]}, "2 of 3 videos have no attributes, first b"),
    ],
)
def test_attributes_are_given_exactly_where_they_are_read(branched, named, protocol, attributes, said):
    with pytest.raises(ValueError, match=said):
        evaluate(*branched, named, protocol, attributes=attributes)


def test_a_list_of_classes_is_scored_over_its_classes_alone(mini, colors):
    names = colors.features["label"].names
    lists = {"base": names[:3], "novel": names[3:]}

    whole = evaluate(*mini, colors, class_lists=lists)

    def restrict(kept: list[str]) -> float:
        rows = [row for row, label in enumerate(colors["label"]) if names[label] in kept]
        ids = [names.index(name) for name in kept]
        best = whole.scores[rows][:, ids].argmax(1).tolist()
        return sum(kept[i] == names[colors["label"][row]] for i, row in zip(best, rows, strict=True)) / len(rows)

    base, novel = (restrict(kept) for kept in lists.values())
    assert (whole.metrics["base_top1"], whole.metrics["novel_top1"]) == (base, novel)
    assert whole.metrics["list_top1_mean"] == pytest.approx((base + novel) / 2)
    assert whole.metrics["list_top1_std"] == pytest.approx(abs(base - novel) / 2)
    assert whole.metrics["harmonic_mean"] == pytest.approx(2 * base * novel / (base + novel))
    assert {"list_top5_mean", "list_top5_std"} <= whole.metrics.keys()


def test_lists_of_classes_need_one_label_for_each_video(mini, colors):
    features = Features({"video": Video(decode=False), "label": List(ClassLabel(names=["red", "blue"]))})
    rows = [{"video": row["video"], "label": [0, 1]} for row in colors.to_list()[:2]]

    with pytest.raises(ValueError, match="one label each"):
        evaluate(*mini, Dataset.from_list(rows, features=features), class_lists={"some": ["red"]})


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
    ("selection", "said"),
    [("last", "weights of the last epoch"), ("test", "biased upwards"), ("validation", "held-out validation videos")],
)
def test_a_report_says_how_its_weights_were_selected(mini, colors, selection, said):
    report = evaluate(*mini, colors.select(range(1)), selection=selection)

    assert report.settings["selection"] == selection
    assert said in report.lines()[-1]
