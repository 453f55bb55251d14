"""The embedded model is published, and loaded by name in processes that know only this Hub."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from hub_server import TOKEN, serve
from huggingface_hub import HfApi

from kinoclip.hub.converting import convert
from kinoclip.hub.publish import publish

REPORTS = sorted((Path(__file__).parents[2] / "hub_cards" / "bike-mini-actions" / "reports").glob("*.json"))
# the classes of config, model and processor, and the answers of both pipelines: by remote code, and after `import kinoclip`
LOAD = """
import json, sys
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline
name, answers = "org/bike-mini", []
for options in ({"trust_remote_code": True}, {}):
    if not options:
        import kinoclip
    kinds = [type(kind.from_pretrained(name, **options)).__name__ for kind in (AutoConfig, AutoModel, AutoProcessor)]
    closed = pipeline("video-classification", model=name, **options)(sys.argv[1])
    zero_shot = pipeline("zero-shot-video-classification", model=name, **options)
    free = zero_shot(sys.argv[1], candidate_labels=["red circle", "blue ring"])
    answers.append([kinds, closed[0]["label"], free[0]["label"]])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A Hub to which the embedded model was published with its reports."""
    folder = tmp_path_factory.mktemp("made") / "bike-mini"
    list(convert("bike", "mini", folder, labels=["red circle", "blue square", "green star"]))
    with serve() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        patch.setattr("kinoclip.hub.publish.HfApi", partial(HfApi, endpoint=hub.url))
        patch.setenv("HF_TOKEN", TOKEN)
        list(publish(folder, "org/bike-mini", reports=REPORTS, license="apache-2.0"))
        yield hub


@pytest.fixture
def environment(hub, tmp_path, programs):
    """The variables of a process that knows only this Hub."""
    known = {name: value for name, value in programs.items() if name != "HF_HUB_OFFLINE"}
    return {**known, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}


def test_the_code_of_the_published_card_runs_as_printed(hub, video_path, tmp_path, environment):
    (tmp_path / "videos").mkdir()
    for copy in ("video.mp4", "videos/a.mp4"):
        shutil.copy(video_path, tmp_path / copy)
    card = hub.repos["models/org/bike-mini"].files["README.md"].decode()
    snippets = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    [command] = re.findall(r"^kinoclip classify .*", card, re.MULTILINE)
    assert len(snippets) == 2
    commands = [*([sys.executable, "-c", code] for code in snippets), shlex.split(command)]
    for one in commands:
        done = subprocess.run(one, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    [record] = map(json.loads, (tmp_path / "answers.jsonl").read_text().splitlines())
    assert record["label"] in ("red circle", "blue square", "green star")


def test_the_model_loads_by_name_and_later_without_a_network(video_path, environment):
    answers = []
    for changes in ({}, {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}):
        command = [sys.executable, "-c", LOAD, str(video_path)]
        done = subprocess.run(command, env={**environment, **changes}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers += json.loads(done.stdout.splitlines()[-1])
    kinds, closed, free = answers[0]
    assert kinds == ["BikeConfig", "BikeModel", "BikeProcessor"]
    assert closed in ("red circle", "blue square", "green star")
    assert free in ("red circle", "blue ring")
    assert answers == [answers[0]] * 4


def test_a_download_is_announced_once_with_its_size_and_its_revision_is_known(hub, tmp_path, environment):
    load = """
from kinoclip.methods.auto import read_config, read_revision
for _ in range(2):
    read_config("org/bike-mini")
print(read_revision("org/bike-mini"), read_revision("."))
"""
    done = subprocess.run([sys.executable, "-c", load], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # float32, 1.4 M parameters
    assert done.stderr == f"org/bike-mini is downloaded from the hub into {tmp_path / 'home' / 'hub'}, once: 6 MB.\n"
    assert done.stdout.split() == [hub.repos["models/org/bike-mini"].head, "None"]
