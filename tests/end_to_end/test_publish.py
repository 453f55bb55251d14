"""The embedded model to a Hub by command, and back by name: with the package imported, and by remote code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import TOKEN, serve

from kinoclip.hub.converting import convert

REPORTS = Path(__file__).parents[2] / "hub_cards" / "bike-mini" / "reports"
LOAD = """
import json, sys
video, remote = sys.argv[1], sys.argv[2] == "remote"
if not remote:
    import kinoclip
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline
trust = {"trust_remote_code": True} if remote else {}
name = "org/bike-mini"
kinds = [type(kind.from_pretrained(name, **trust)).__name__ for kind in (AutoConfig, AutoModel, AutoProcessor)]
closed = pipeline("video-classification", model=name, **trust)(video)
free = pipeline("zero-shot-video-classification", model=name, **trust)(video, candidate_labels=["red circle", "blue ring"])
print(json.dumps([kinds, closed[0]["label"], free[0]["label"]]))
"""


def run(hub, home: Path, *command: object) -> subprocess.CompletedProcess:
    """Run a process that knows this Hub only."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=250, check=False
    )


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
    return [run(hub, home, *command), run(hub, home, *command)]


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
def test_the_published_model_loads_by_name(published, hub, video_path, tmp_path, way):
    done = run(hub, tmp_path, "-c", LOAD, video_path, way)
    assert done.returncode == 0, done.stderr
    kinds, closed, free = json.loads(done.stdout.splitlines()[-1])
    assert kinds == ["BikeConfig", "BikeModel", "BikeProcessor"]
    assert closed in ("red circle", "blue square", "green star")
    assert free in ("red circle", "blue ring")
