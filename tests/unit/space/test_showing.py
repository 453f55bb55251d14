"""An answer as HTML: whatever a visitor wrote is escaped, and what the model has is shown."""

import ast
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import torch

from kinoclip.explain.html import show_reasons
from kinoclip.inference.spans import Span
from kinoclip.modeling.classification import Classification, Prediction
from kinoclip.space.answers import Answer
from kinoclip.space.showing import show_verdict

EVIL = "<img src=x onerror=alert(1)>"


def make(spans=None, threshold=0.5, **fields) -> Answer:
    ranking = Classification(
        (Prediction(EVIL, 0.7), Prediction("b & c", 0.3)),
        frame_indices=[0, 8],
        timestamps=[0.0, 1.0],
        duration_seconds=2.0,
        frames=torch.zeros(2, 3, 32, 32, dtype=torch.uint8),
        **{"saliency": {EVIL: [0.25, 0.75], "b & c": [0.5, 0.5]}, **fields},
    )
    return Answer("mini", threshold, ranking, spans)


def tags(html: str) -> list[tuple[str, dict]]:
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))
    parser.feed(html)
    return found


def test_a_label_is_shown_as_it_was_written_and_never_as_html():
    votes = {EVIL: 0.6, "b & c": 0.4}
    entities = {EVIL: [0.1, 0.2]}
    answer = make(
        spans=[Span(0.0, 1.0, EVIL, 0.9)],
        languages={"english": votes, "chinese": votes},
        agreement=1.0,
        entities=entities,
        entity_map=torch.zeros(2, 1, 1, dtype=torch.long),
    )
    html = show_verdict(answer) + show_reasons(answer.ranking)
    assert all("onerror" not in attributes for _, attributes in tags(html))
    assert html.count("&lt;img src=x onerror=alert(1)&gt;") >= 5


def test_the_bar_of_the_frame_that_counted_most_is_full():
    heights = [a["style"] for tag, a in tags(show_reasons(make().ranking)) if tag == "span" and "style" in a]
    assert heights == ["height:33%", "height:100%"]


def test_spans_stand_on_the_time_line_where_they_are_seen():
    html = show_verdict(make(spans=[Span(0.5, 1.5, "b & c", 0.9)]))
    bars = [a["style"] for tag, a in tags(html) if tag == "span" and "style" in a]
    assert bars == ["left:25.00%;width:50.00%;background:#0072b2"]
    assert "0.5 s to 1.5 s" in html


def test_a_video_without_a_span_says_so():
    assert "In no part of the video a label has a probability of 50% or more." in show_verdict(make(spans=[]))


def test_below_the_threshold_the_closest_label_is_named_in_small_letters():
    html = show_verdict(make(threshold=0.8))
    assert "None of these" in html
    assert "The closest is" in html


@pytest.mark.parametrize(
    ("fields", "views"),
    [
        ({}, []),
        ({"attention": torch.rand(2, 4, 4)}, ["Frames", "Where it looked"]),
        (
            {
                "attention": torch.rand(2, 4, 4),
                "entities": {"a ball": [0.1, 0.2]},
                "entity_map": torch.zeros(2, 4, 4, dtype=torch.long),
            },
            ["Frames", "Where it looked", "What it saw"],
        ),
    ],
)
def test_there_is_a_button_for_each_way_to_look_at_the_frames(fields, views):
    html = show_reasons(make(**fields).ranking)
    assert [name for name in ("Frames", "Where it looked", "What it saw") if f">{name}</label>" in html] == views
    assert html.count("<img") == 2 * max(1, len(views))


def test_a_model_that_tells_no_reasons_shows_its_frames_alone():
    html = show_reasons(make(saliency=None).ranking)
    assert "Bars" not in html
    assert html.count("<figure>") == 2


def test_a_headline_of_spans_says_that_the_whole_video_fits_another_label():
    said = "Over the whole video, <b>&lt;img src=x onerror=alert(1)&gt;</b> fits best, with 70.0%."
    assert said in show_verdict(make(spans=[Span(0.5, 1.5, "b & c", 0.9)]))
    assert said not in show_verdict(make(spans=[Span(0.5, 1.5, EVIL, 0.9)]))


def test_the_model_is_named_with_its_revision_if_it_has_one():
    assert "model mini</p>" in show_verdict(make())
    assert "model mini, revision 0123abcd</p>" in show_verdict(replace(make(), revision="0123abcd" * 5))
    assert replace(make(), revision="0123abcd" * 5).record()["revision"] == "0123abcd" * 5


def test_the_code_of_a_request_is_python_whatever_the_labels_are():
    app = pytest.importorskip("kinoclip.space.app", reason="pip install 'kinoclip[demo]'")
    shown = app.show_code(f'```\n{EVIL}\n"quoted" {{x}}', "org/model")
    blocks = re.findall(r"```python\n(.*?)```", shown, re.DOTALL)
    assert len(blocks) == 2
    calls = [node for block in blocks for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)]
    given = {word.arg: word.value for call in calls for word in call.keywords}
    assert ast.literal_eval(given["labels"]) == f'```\n{EVIL}\n"quoted" {{x}}'
    assert ast.literal_eval(given["model"]) == "org/model"
    assert "drinking" in app.show_code(" ", "mini")
