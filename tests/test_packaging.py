"""What a release consists of: the wheel, its metadata, and the files of the repository that name the version."""

import email
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import kinoclip

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this tree, opened."""
    pytest.importorskip("setuptools", minversion="77")
    root = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, root)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, root], cwd=root, check=True, capture_output=True)
    with zipfile.ZipFile(next(root.glob("*.whl"))) as file:
        yield file


def test_a_wheel_holds_every_file_of_the_package(wheel):
    files = {path.relative_to(ROOT / "src") for path in (ROOT / "src" / "kinoclip").rglob("*") if path.is_file()}
    expected = {path.as_posix() for path in files if path.suffix != ".pyc"}
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_a_wheel_has_the_license_the_command_and_the_version(wheel):
    folder = f"kinoclip-{kinoclip.__version__}.dist-info"
    metadata = email.message_from_bytes(wheel.read(f"{folder}/METADATA"))
    assert metadata["Version"] == kinoclip.__version__
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert b"kinoclip = kinoclip.cli:run" in wheel.read(f"{folder}/entry_points.txt")
    assert wheel.read(f"{folder}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def read_pins(path):
    """Return name and version of each line `name==version` of a file."""
    return dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / path).read_text(), re.M))


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("tests/matrix/oldest.txt", ["", "train", "entities"]),
        ("constraints.txt", ["demo", "export"]),
    ],
)
def test_lower_bounds_are_the_oldest_releases_that_the_matrix_runs(path, parts):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    bounds = {
        each.name: Version(bound.version)
        for each in map(Requirement, (line for part in parts for line in groups[part]))
        for bound in each.specifier
        if bound.operator == ">="
    }
    pins = {name: Version(pin) for name, pin in read_pins(path).items()}
    assert bounds == (pins if "" in parts else {name: pins[name] for name in bounds})


@pytest.mark.parametrize("path", ["tests/matrix/middle.txt", "constraints.txt"])
def test_each_set_of_the_matrix_pins_newer_releases_of_the_same_packages(path):
    pins = read_pins(path)
    older = [
        name
        for name, version in read_pins("tests/matrix/oldest.txt").items()
        if Version(pins[name]) < Version(version)
    ]
    assert not older


def test_the_citation_names_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["license"]) == (kinoclip.__version__, "Apache-2.0")


def test_workflows_call_targets_and_workflows_that_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    paths = sorted((ROOT / ".github" / "workflows").iterdir())
    jobs = [job for path in paths for job in yaml.safe_load(path.read_text())["jobs"].values()]
    called = {
        word
        for job in jobs
        for step in job.get("steps", ())
        for word in re.findall(r"make (\w+)", step.get("run", ""))
    }
    assert called == {"docs", "lint", "test", "matrix"} & targets
    assert {job["uses"] for job in jobs if "uses" in job} == {"./.github/workflows/build.yml"}
    assert (ROOT / ".github" / "workflows" / "build.yml") in paths
