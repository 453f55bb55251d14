"""The embedded model to a Hub by command, and back by name: with the package imported, and by remote code."""

import json
from pathlib import Path

import pytest
from hub_clients import LOAD, run_client
from hub_server import serve

from kinoclip.hub.converting import convert

REPORTS = Path(__file__).parents[2] / "hub_cards" / "bike-mini" / "reports"


@pytest.fixture(scope="module")
def hub():
    with serve() as hub:
        yield hub


@pytest.fixture(scope="module")
def published(hub, tmp_path_factory):
    """What `kinoclip publish` printed, first and again."""
    folder = tmp_path_factory.mktemp("made") / "bike-mini"
    for _ in convert("bike", "mini", folder, labels=["red circle", "blue square", "green star"]):
        pass
    reports = [option for report in sorted(REPORTS.glob("*.json")) for option in ("--report", report)]
    command = ("-m", "kinoclip.cli", "publish", folder, "org/bike-mini", *reports, "--license", "apache-2.0")
    home = tmp_path_factory.mktemp("publisher")
    return [run_client(hub.url, home, *command) for _ in range(2)]


def test_the_command_publishes_once(published, hub):
    first, again = published
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert "in one commit" in first.stdout.splitlines()[-1]
    assert "nothing changed" in again.stdout.splitlines()[-1]
    assert len(hub.repos["models/org/bike-mini"].commits) == 2  # the Hub's own first one, and this


def test_only_the_endpoints_of_one_upload_were_asked_each_time(published, hub):
    asked = [path for path in hub.asked if not path.endswith("repos/create")]
    assert asked == [
        "api/validate-yaml",
        "api/models/org/bike-mini/preupload/main",
        "api/models/org/bike-mini/commit/main",
        "api/validate-yaml",
        "api/models/org/bike-mini/preupload/main",
    ]


def test_nothing_but_the_folder_lies_there_with_its_reports_and_card(published, hub):
    files = hub.repos["models/org/bike-mini"].files
    assert sorted(files) == [
        ".gitattributes",
        "README.md",
        "config.json",
        "kinoclip_shim.py",
        "model.safetensors",
        "processor_config.json",
        "reports/actions-test-single_view.json",
        "reports/unseen-test-single_view.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert b"### kinoshapes/actions, test split" in files["README.md"]


@pytest.mark.parametrize("way", ["imported", "remote"])
def test_the_published_model_loads_by_name_and_again_without_a_network(published, hub, video_path, tmp_path, way):
    command = ("-c", LOAD, "org/bike-mini", video_path, way)
    done = run_client(hub.url, tmp_path, *command)
    assert done.returncode == 0, done.stderr
    kinds, closed, free = json.loads(done.stdout.splitlines()[-1])
    assert kinds == ["BikeConfig", "BikeModel", "BikeProcessor"]
    assert closed in ("red circle", "blue square", "green star")
    assert free in ("red circle", "blue ring")
    again = run_client("http://127.0.0.1:9", tmp_path, *command, HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
