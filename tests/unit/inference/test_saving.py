"""The reasons for an answer as a picture, a film, a page and data."""

import json
from html.parser import HTMLParser

import av
import pytest
import torch
from PIL import Image

from kinoclip.inference.classification import Classification, Prediction
from kinoclip.inference.saving import FORMATS, save_explanation
from kinoclip.inference.timeline import Span

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


def tags(html):
    found = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attributes: found.append((tag, dict(attributes)))
    parser.feed(html)
    return found


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_written_whole_and_alone(tmp_path, kind):
    path = save_explanation(make(), tmp_path / "new" / f"why.{kind}")

    assert [path] == list(path.parent.iterdir())
    assert path.stat().st_size > 0


@pytest.mark.parametrize(
    "missing",
    [
        {"saliency": None},
        {"attention": None},
        {"entities": None, "entity_map": None},
        {"timestamps": None, "duration_seconds": None},
        {"languages": None, "agreement": None, "attributes": None},
    ],
)
@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_method_does_not_tell_is_left_out(tmp_path, kind, missing):
    save_explanation(make(**missing), tmp_path / f"why.{kind}")


def test_a_page_is_whole_in_itself_and_shows_names_as_they_are_written(tmp_path):
    html = save_explanation(make(), tmp_path / "why.html", [Span(0.0, 1.0, EVIL, 0.9)]).read_text()

    found = tags(html)
    assert "script" not in {tag for tag, _ in found}
    addresses = [value for _, attributes in found for name, value in attributes.items() if name in ("src", "href")]
    assert addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert "url(" not in html
    assert html.count("&lt;script&gt;") >= 6


def test_a_film_shows_each_frame_for_a_quarter_of_a_second(tmp_path):
    with Image.open(save_explanation(make(), tmp_path / "why.gif")) as gif:
        assert (gif.n_frames, gif.info["duration"]) == (3, 250)
    with av.open(str(save_explanation(make(), tmp_path / "why.mp4"))) as video:
        stream = video.streams.video[0]
        assert (sum(1 for _ in video.decode(stream)), float(stream.average_rate)) == (3, 4.0)
        assert stream.codec_context.pix_fmt == "yuv420p"


def test_data_holds_every_reason(tmp_path):
    data = json.loads(save_explanation(make(), tmp_path / "why.json").read_text())

    assert data["saliency"]["red"] == [0.2, 0.5, 0.3]
    assert torch.tensor(data["attention"]).sum((1, 2)) == pytest.approx([1.0] * 3, abs=1e-3)
    assert data["entity_map"][0] == [[0, -1, 0], [0, 0, 0]]
    assert data["languages"]["chinese"]["red"] == 0.6


@pytest.mark.parametrize("name", ["why.bmp", "why", "why.png.exe"])
def test_another_ending_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"ends in one of \.png"):
        save_explanation(make(), tmp_path / name)


@pytest.mark.parametrize("kind", ["png", "gif", "mp4"])
def test_an_answer_without_its_frames_cannot_be_drawn(tmp_path, kind):
    with pytest.raises(ValueError, match="explain=True"):
        save_explanation(make(frames=None), tmp_path / f"why.{kind}")


def test_a_failure_leaves_the_old_file_as_it_was(tmp_path):
    path = tmp_path / "why.png"
    path.write_text("old")

    with pytest.raises(ValueError, match="explain=True"):
        save_explanation(make(frames=None), path)

    assert path.read_text() == "old"
