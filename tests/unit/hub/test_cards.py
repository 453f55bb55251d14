"""Model cards: their facts, the separation of measured and printed numbers, and the owner's text."""

import json
import re
import runpy
import shutil
from pathlib import Path

import pytest
import torch

from kinoclip.cli import _build_parser
from kinoclip.hub.cards import has_own_text, model_card, read_paper, training_facts
from kinoclip.methods import METHODS
from kinoclip.text.entities import load_corpus
from kinoclip.training.recipe import load_recipe, recipe_names

HUB_CARDS = Path(__file__).parents[3] / "hub_cards"


@pytest.fixture
def report(write_report, tmp_path) -> Path:
    return write_report(tmp_path / "report.json")


def test_a_card_without_a_report_says_that_nothing_was_measured(bike_folder):
    card = model_card(bike_folder)
    assert "Nothing was measured with these weights." in card.text
    assert "model-index" not in card.data.to_dict()


def test_a_report_is_shown_with_its_protocol_interval_and_data(bike_folder, report):
    text = model_card(bike_folder, reports=[report]).text
    assert "### ucf101, test split" in text
    assert "| top-1 accuracy | 75.00% | 40.9% to 92.8% |" in text
    assert "`my-model`: 8 videos scored, 1 unreadable" in text
    assert "Protocol `single_view`: one clip, center crop; 4 frames by `segment_start`." in text
    assert "Weakest of 2 classes: archery 50%, diving 100%." in text
    assert "Fingerprint of the data: `0123456789abcdef`. Versions: kinoclip 0.1.0." in text


def test_the_model_index_holds_what_was_measured(bike_folder, report):
    [result] = model_card(bike_folder, reports=[report], repo_id="org/mine").data.eval_results
    assert (result.dataset_name, result.dataset_split, result.metric_type) == ("ucf101", "test", "accuracy")
    assert result.metric_value == 0.75
    assert result.metric_args == {"protocol": "single_view", "videos": 8, "fingerprint": "0123456789abcdef"}


def test_numbers_of_a_paper_stand_apart_and_in_no_model_index(bike_folder):
    card = model_card(bike_folder, recipe="bike/t6a-vcs")
    before, after = card.text.split("## Numbers printed in the paper")
    assert "78.5" not in before
    assert "| Table 6a (`bike/t6a-vcs`)" in after
    assert "top1 78.5" in after
    assert "model-index" not in card.data.to_dict()


def test_a_report_of_another_method_is_refused(bike_folder, write_report, tmp_path):
    other = write_report(tmp_path / "other.json", "kinoclip_alt")
    with pytest.raises(ValueError, match="is a report of a 'kinoclip_alt' model, got a 'kinoclip_bike' model"):
        model_card(bike_folder, reports=[other])


def test_a_row_of_another_method_is_refused(bike_folder):
    with pytest.raises(ValueError, match="is a recipe of 'kinoclip_alt'"):
        model_card(bike_folder, recipe="alt/t1-b16-8f")


def test_the_first_ten_of_a_checkpoints_own_labels_are_named(tiny_bike, bike_processor, tmp_path):
    labels = [f"action {number}" for number in range(12)]
    with torch.no_grad():
        tiny_bike.set_candidates(labels, tiny_bike.encode_text(**bike_processor(text=labels)))
    tiny_bike.save_pretrained(tmp_path)
    bike_processor.save_pretrained(tmp_path)
    text = model_card(tmp_path).text
    assert f"12 stored: {', '.join(labels[:10])} and 2 more; and any others" in text


def test_text_of_the_owner_below_the_mark_is_kept(bike_folder, report):
    place = bike_folder / "README.md"
    first = model_card(bike_folder)
    first.data["license"] = "mit"
    place.write_text(f"{first}\nMy own words.\n")
    second = model_card(bike_folder, reports=[report])
    assert second.text.rstrip().endswith("My own words.")
    assert "75.00%" in second.text
    assert second.data.license == "mit"
    assert not has_own_text(first)
    assert has_own_text(second)


def test_an_edit_of_the_generated_part_is_refused(bike_folder):
    edited = str(model_card(bike_folder)).replace("## Use", "## How I use it")
    (bike_folder / "README.md").write_text(edited)
    with pytest.raises(ValueError, match="was edited above the line"):
        model_card(bike_folder)


def test_a_card_without_the_mark_moves_below_it(bike_folder):
    (bike_folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    card = model_card(bike_folder)
    assert card.text.rstrip().endswith("# Mine")
    assert card.data.license == "mit"


def test_the_code_of_a_card_runs(bike_folder, video_path, tmp_path, monkeypatch, capsys):
    shutil.copy(video_path, tmp_path / "video.mp4")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", model_card(bike_folder, repo_id=str(bike_folder)).text, re.DOTALL)
    assert len(blocks) == 2
    exec(blocks[0], {})
    exec(blocks[1], {})
    assert "diving" in capsys.readouterr().out


def test_training_facts_do_not_show_local_folders():
    facts = training_facts(
        {
            "name": "finetune",
            "start": "/home/somebody/my_clip/",
            "recipe": {"training": {"epochs": 2}},
            "videos": {"training": [640, "0123456789abcdef"], "validation": None},
            "labels": ["a", "b"],
            "failures": {},
            "updates": 20,
            "batch_size": 64,
            "trained_parameters": 2_000_000,
            "frozen_parameters": 0,
            "best": {"epoch": 1, "update": 20, "value": 0.5},
            "seconds": 36.0,
            "processes": 1,
            "device": "cpu",
            "versions": {"torch": "2.15.0"},
        }
    )
    assert facts["started from"] == "`my_clip`"
    assert facts["epochs"] == "2, 20 updates of 64 videos"
    assert facts["took"] == "0.6 minutes on 1 x cpu"


@pytest.mark.parametrize("name", METHODS)
def test_the_paper_of_every_method_is_parsed(name):
    paper = read_paper(METHODS[name].config())
    assert paper.title.endswith(tuple("abcdefghijklmnopqrstuvwxyz"))
    assert paper.link.startswith("https://")
    assert paper.differences


def test_the_cards_in_the_repository_are_what_the_package_writes():
    written = {path.parent.name: path.read_text() for path in HUB_CARDS.glob("*/README.md")}
    script = runpy.run_path(str(HUB_CARDS.parent / "examples" / "hub_cards" / "write_cards.py"))
    made = {name: str(card) for name, card in script["planned_cards"](HUB_CARDS)}
    assert made == written, "run python examples/hub_cards/write_cards.py --output hub_cards"


def test_the_commands_of_the_cards_are_ones_that_the_command_line_takes():
    for card in sorted(HUB_CARDS.glob("*/README.md")):
        for command in re.findall(r"`kinoclip ((?:convert|reproduce|train) [^`]+)`", card.read_text()):
            options = _build_parser().parse_args(command.split())
            if options.command in ("train", "reproduce"):
                recipe = load_recipe(options.recipe if options.command == "train" else options.rows[0])
                assert (recipe.start in recipe_names()) == (options.command == "reproduce"), command


@pytest.mark.parametrize("name", ["alt-vitb16", "alt-vitl14"])
def test_the_cost_on_a_card_is_that_of_the_corpus_of_its_row(name):
    text = (HUB_CARDS / name / "README.md").read_text()
    assert f"`corpus_size = {len(load_corpus('kinetics400'))}`" in text


@pytest.mark.parametrize("path", sorted(HUB_CARDS.glob("*/reports/*.json")), ids=lambda path: path.stem)
def test_a_report_in_the_repository_was_measured_by_this_package(path):
    report = json.loads(path.read_text())
    assert report["settings"]["versions"]["kinoclip"]
    assert report["settings"]["coverage"]["fingerprint"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", None, "lacks its tokenizer"),
        ("tokenizer.json", "[" * 9, "The processor or the tokenizer in .* could not be read"),
        ("processor_config.json", "{", "The processor or the tokenizer in .* could not be read"),
    ],
)
def test_a_processor_that_is_damaged_is_named_in_a_line(bike_folder, name, content, said):
    (bike_folder / name).unlink()
    if content is not None:
        (bike_folder / name).write_text(content)
    with pytest.raises(ValueError, match=said) as caught:
        model_card(bike_folder)
    assert "\n" not in str(caught.value)
