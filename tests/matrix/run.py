"""Test the package with the oldest, middle and newest dependencies: python tests/matrix/run.py [SET]...

Builds the source distribution, and from it the wheel. For each set an environment of its own in build/matrix gets the wheel without extras,
which `smoke.py` checks; then the extras, with which contracts, parity, the blocks of the README and what needs the extras are run.
"""

# ruff: noqa: T201
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "matrix"
# the Python of a set, which uv finds or downloads, the releases of what is installed, and the extras
SETS = {
    "oldest": ("3.11", ROOT / "tests/matrix/oldest.txt", "entities,train"),
    "middle": ("3.12", ROOT / "tests/matrix/middle.txt", "entities,train"),
    "newest": ("3.13", ROOT / "constraints.txt", "all"),
}
TOOLS = ["open_clip_torch", "pytest>=9", "pytest-timeout", "pytest-xdist", "pyyaml", "scikit-learn"]
TESTS = [
    "tests/contract tests/parity tests/test_packaging.py",
    "tests/test_pages.py -k README",
    "tests/unit/export tests/unit/data/test_load.py tests/unit/evaluation/test_metrics.py tests/unit/text/test_wordnet.py "
    "tests/unit/training/test_build_model.py tests/end_to_end/test_space.py",
]
SHOWN = ("torch", "transformers", "huggingface_hub", "av")


def prepare() -> tuple[Path, Path]:
    """Install uv, build both distributions, and return the paths of uv and of the wheel."""
    tools = BUILD / "tools" / "bin"
    if not (tools / "uv").exists():
        subprocess.run([sys.executable, "-m", "venv", BUILD / "tools"], check=True)
        subprocess.run([tools / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
    shutil.rmtree(BUILD / "dist", ignore_errors=True)
    subprocess.run([tools / "uv", "build", "--quiet", "--out-dir", BUILD / "dist", ROOT], check=True)
    return tools / "uv", next((BUILD / "dist").glob("*.whl"))


def test(name: str, uv: Path, wheel: Path) -> list[str]:
    """Install a set, test it, and return its row of the table."""
    version, constraints, extras = SETS[name]
    folder, empty, start = BUILD / name, BUILD / f"{name}-smoke", time.monotonic()
    shutil.rmtree(empty, ignore_errors=True)
    empty.mkdir()
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    python = folder / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", version, folder], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python, "--constraint", constraints]
    subprocess.run([*install, wheel], check=True)
    smoke = subprocess.run([python, ROOT / "tests/matrix/smoke.py"], cwd=empty, env=environment, check=False)
    subprocess.run([*install, f"kinoclip[{extras}] @ {wheel.as_uri()}", *TOOLS], check=True)
    counts = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0}
    for number, chosen in enumerate(TESTS):
        report = BUILD / f"{name}-{number}.xml"
        report.unlink(missing_ok=True)
        options = ["-q", "-n", "2", "--dist", "loadscope", "-p", "no:cacheprovider", "--junit-xml", report]
        subprocess.run([python, "-m", "pytest", *options, *chosen.split()], cwd=ROOT, env=environment, check=False)
        suite = ElementTree.parse(report).find("testsuite")
        for key in counts:
            counts[key] += int(suite.get(key))
    failed = counts["failures"] + counts["errors"]
    code = "import platform, sys; from importlib.metadata import version as v; print(platform.python_version(), *map(v, sys.argv[1:]))"
    versions = subprocess.run([python, "-c", code, *SHOWN], check=True, capture_output=True, text=True).stdout.split()
    passed = counts["tests"] - failed - counts["skipped"]
    return [
        *(
            name,
            *versions,
            "failed" if smoke.returncode else "passed",
            str(passed),
            str(failed),
            str(counts["skipped"]),
        ),
        f"{time.monotonic() - start:.0f}",
    ]


def main() -> int:
    """Test the chosen sets, or all, and print the table; return 1 if something failed."""
    uv, wheel = prepare()
    rows = [test(name, uv, wheel) for name in sys.argv[1:] or SETS]
    header = ["set", "Python", *SHOWN, "without extras", "passed", "failed", "skipped", "seconds"]
    for row in (header, ["---"] * len(header), *rows):
        print(f"| {' | '.join(row)} |")
    return int(any(row[-5] == "failed" or row[-3] != "0" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
