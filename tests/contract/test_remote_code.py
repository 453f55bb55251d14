"""A published folder without `import kinoclip`: through its shim, or with a line that says what to install."""

import json
import os
import subprocess
import sys

import pytest
import torch

from kinoclip import BikeConfig, BikeModel

# first as if the package were not installed
REMOTE = """
import json, sys
from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor
folder, again = sys.argv[1:]
sys.modules["kinoclip"] = None
try:
    AutoModel.from_pretrained(folder, trust_remote_code=True)
except ImportError as error:
    told = str(error)
for name in [name for name in sys.modules if name == "kinoclip" or name.startswith("transformers_modules")]:
    del sys.modules[name]
kinds = (AutoConfig, AutoModel, AutoModelForVideoClassification, AutoProcessor, AutoVideoProcessor)
loaded = [kind.from_pretrained(folder, trust_remote_code=True) for kind in kinds]
loaded[1].save_pretrained(again)
loaded[3].save_pretrained(again)
print(json.dumps([told, [type(thing).__module__ + "." + type(thing).__name__ for thing in loaded]]))
"""


@pytest.fixture(scope="module")
def published(tiny_fields, bike_processor, tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("published")
    BikeModel(BikeConfig(**tiny_fields)).save_pretrained(folder)
    bike_processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def remote(published, tmp_path_factory):
    """What an interpreter that has not imported this package was told, the classes it found, and where it saved again."""
    again = tmp_path_factory.mktemp("again") / "saved"
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path_factory.mktemp("modules")), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", REMOTE, str(published), str(again)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert result.returncode == 0, result.stderr
    return *json.loads(result.stdout.splitlines()[-1]), again


def test_without_the_package_the_reader_is_told_to_install_it(remote):
    assert remote[0] == "This checkpoint needs the package kinoclip: run `pip install kinoclip`."


def test_every_auto_class_finds_the_classes_of_the_installed_package(remote):
    assert remote[1] == [
        "kinoclip.methods.bike.configuration_bike.BikeConfig",
        "kinoclip.methods.bike.modeling_bike.BikeModel",
        "kinoclip.methods.bike.modeling_bike.BikeModel",
        "kinoclip.methods.bike.configuration_bike.BikeProcessor",
        "kinoclip.modeling.video_processing.RecognizerVideoProcessor",
    ]


def test_saving_again_after_remote_code_writes_the_same_files_with_every_map_to_the_shim(remote, published):
    again = remote[2]
    assert sorted(path.name for path in again.iterdir()) == sorted(path.name for path in published.iterdir())
    assert [path.name for path in again.glob("*.py")] == ["kinoclip_shim.py"]
    for name in ("kinoclip_shim.py", "processor_config.json"):
        assert (again / name).read_text() == (published / name).read_text()
    config, processor = (json.loads((again / f"{name}.json").read_text()) for name in ("config", "processor_config"))
    assert config["auto_map"] == {
        "AutoConfig": "kinoclip_shim.BikeConfig",
        "AutoModel": "kinoclip_shim.BikeModel",
        "AutoModelForVideoClassification": "kinoclip_shim.BikeModel",
    }
    assert processor["auto_map"] == {"AutoProcessor": "kinoclip_shim.BikeProcessor"}
    videos = processor["video_processor"]["auto_map"]
    assert videos == {"AutoVideoProcessor": "kinoclip_shim.RecognizerVideoProcessor"}
