"""Explanations as pictures, pages and data."""

import json
from html.parser import HTMLParser

import pytest
import torch

from kinoclip.inference.saving import FORMATS, save_explanation
from kinoclip.modeling.classification import Classification, Prediction, Span

EVIL = "</title><script>alert(1)</script>"


def make(**fields):
    votes = {"red": 0.6, EVIL: 0.4}
    content = {
        "video": EVIL,
        "frame_indices": [0, 4, 9],
        "timestamps": [0.0, 0.5, 1.1],
        "duration_seconds": 1.5,
        "frames": torch.randint(0, 256, (3, 3, 33, 47), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
        "saliency": {"red": [0.2, 0.5, 0.3], EVIL: [0.4, 0.3, 0.3]},
        "attention": torch.full((3, 2, 3), 1 / 6),
        "entities": {EVIL: [0.1, 0.2, 0.3]},
        "entity_map": torch.tensor([[[0, -1, 0], [0, 0, 0]]] * 3),
        "attributes": ["a circle", EVIL],
        "languages": {"english": votes, "chinese": votes},
        "agreement": 1.0,
    }
    return Classification((Prediction("red", 0.6), Prediction(EVIL, 0.4)), **{**content, **fields})


@pytest.mark.parametrize(
    "missing",
    [
        (),
        ("saliency",),
        ("attention",),
        ("entities", "entity_map"),
        ("timestamps", "duration_seconds"),
        ("languages", "agreement", "attributes"),
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_written_with_what_the_answer_has(tmp_path, kind, missing):
    path = save_explanation(make(**dict.fromkeys(missing)), tmp_path / "new" / f"why.{kind}")
    assert [path] == list(path.parent.iterdir())
    assert path.stat().st_size > 0


def test_a_page_needs_no_other_file_and_escapes_names(tmp_path):
    html = save_explanation(make(), tmp_path / "why.html", [Span(0.0, 1.0, EVIL, 0.9)]).read_text()
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, attributes))
    parser.feed(html)
    assert "script" not in {tag for tag, _ in found}
    addresses = [value for _, attributes in found for name, value in attributes if name in ("src", "href")]
    assert addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert "url(" not in html
    assert html.count("&lt;script&gt;") >= 6


def test_data_holds_the_whole_explanation(tmp_path):
    data = json.loads(save_explanation(make(), tmp_path / "why.json").read_text())
    assert data["saliency"]["red"] == [0.2, 0.5, 0.3]
    assert torch.tensor(data["attention"]).sum((1, 2)) == pytest.approx([1.0] * 3, abs=1e-3)
    assert data["entity_map"][0] == [[0, -1, 0], [0, 0, 0]]
    assert data["languages"]["chinese"]["red"] == 0.6


@pytest.mark.parametrize("name", ["why.gif", "why.mp4", "why", "why.png.exe"])
def test_another_suffix_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in one of \.png, \.html, \.json, got"):
        save_explanation(make(), tmp_path / name)


def test_an_answer_without_frames_cannot_be_drawn_and_the_old_file_stays(tmp_path):
    path = tmp_path / "why.png"
    path.write_text("old")
    with pytest.raises(ValueError, match="explain=True"):
        save_explanation(make(frames=None), path)
    assert path.read_text() == "old"
