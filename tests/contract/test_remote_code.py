"""A published folder without `import kinoclip`: through its shim, or with a line that says what to install."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REMOTE = """
import json, sys
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor
folder, again = sys.argv[1:]
assert "kinoclip" not in sys.modules
kinds = (AutoConfig, AutoModel, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor)
loaded = [kind.from_pretrained(folder, trust_remote_code=True) for kind in kinds]
loaded[1].save_pretrained(again)
loaded[3].save_pretrained(again)
print(json.dumps([type(thing).__module__ + "." + type(thing).__name__ for thing in loaded]))
"""
WITHOUT_PACKAGE = """
import sys
sys.modules["kinoclip"] = None
from transformers import AutoModel
AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)
"""


@pytest.fixture(scope="module")
def published(tiny_fields, bike_processor, tmp_path_factory):
    import torch

    from kinoclip import BikeConfig, BikeModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("published")
    BikeModel(BikeConfig(**tiny_fields)).save_pretrained(folder)
    bike_processor.save_pretrained(folder)
    return folder


def _run(code: str, cache: Path, *arguments: Path) -> subprocess.CompletedProcess:
    """Run code in an interpreter that has not imported this package."""
    environment = os.environ | {"HF_MODULES_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)


@pytest.fixture(scope="module")
def remote(published, tmp_path_factory):
    """What the Auto classes found by remote code, and the folder it was saved to again."""
    again = tmp_path_factory.mktemp("again") / "saved"
    result = _run(REMOTE, tmp_path_factory.mktemp("modules"), published, again)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1]), again


def test_every_auto_class_finds_the_classes_of_the_installed_package(remote):
    assert remote[0] == [
        "kinoclip.methods.bike.configuration_bike.BikeConfig",
        "kinoclip.methods.bike.modeling_bike.BikeModel",
        "kinoclip.methods.bike.modeling_bike.BikeModel",
        "kinoclip.methods.bike.processing_bike.BikeProcessor",
        "kinoclip.video_processing.RecognizerVideoProcessor",
    ]


def test_saving_again_after_remote_code_writes_the_same_files(remote, published):
    names = {path.name for path in published.iterdir()}
    assert {path.name for path in remote[1].iterdir()} == names
    assert [name for name in names if name.endswith(".py")] == ["kinoclip_shim.py"]


@pytest.mark.parametrize("name", ["kinoclip_shim.py", "processor_config.json"])
def test_saving_again_after_remote_code_changes_nothing_in(remote, published, name):
    assert (remote[1] / name).read_text() == (published / name).read_text()


def test_saving_again_after_remote_code_keeps_every_map_to_the_shim(remote):
    config = json.loads((remote[1] / "config.json").read_text())
    processor = json.loads((remote[1] / "processor_config.json").read_text())
    assert config["auto_map"] == {
        "AutoConfig": "kinoclip_shim.BikeConfig",
        "AutoModel": "kinoclip_shim.BikeModel",
        "AutoModelForVideoClassification": "kinoclip_shim.BikeModel",
    }
    assert processor["auto_map"] == {"AutoProcessor": "kinoclip_shim.BikeProcessor"}
    videos = processor["video_processor"]["auto_map"]
    assert videos == {"AutoVideoProcessor": "kinoclip_shim.RecognizerVideoProcessor"}


def test_without_the_package_the_reader_is_told_to_install_it(published, tmp_path):
    result = _run(WITHOUT_PACKAGE, tmp_path, published)
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1].endswith(
        "This checkpoint needs the package kinoclip: run `pip install kinoclip`."
    )
