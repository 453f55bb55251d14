"""Run the common test suites of the installed transformers over every method: python tests/conformity/run.py.

The suites come from the source distribution on the package index, and are kept in a cache folder outside the repository. A failure that
neither the control (`CLIPModel`) has nor `exceptions.toml` excuses makes the run fail.
"""

# ruff: noqa: T201
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections import Counter
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

HERE = Path(__file__).parent
# what the suites import beyond themselves, and the source distribution leaves out
ABSENT = {
    "tests/exporters/test_export.py": "class ExportTesterMixin: pass\n",
    "tests/generation/test_utils.py": "class GenerationTesterMixin: pass\n",
    "tests/utils/test_configuration_utils.py": 'config_common_kwargs = {"output_hidden_states": True, "dtype": "float16"}\n',
    "utils/fetch_hub_objects_for_ci.py": "def url_to_local_path(url): return url\n",
}
CONTROLS = {"ModelControl": "Model", "ConfigControl": "Config", "ExportControl": "Export"}


def fetch(cache: Path) -> Path:
    """Download the source distribution of the installed transformers, once, and what its suites import."""
    cache.mkdir(parents=True, exist_ok=True)
    archive = cache / f"transformers-{version('transformers')}.tar.gz"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    if not archive.exists():
        source = ["--no-binary", ":all:", f"transformers=={version('transformers')}"]
        subprocess.run([*pip, "download", "--no-deps", "--dest", cache, *source], check=True)
    if not (cache / "site" / "parameterized").exists():
        subprocess.run([*pip, "install", "--no-deps", "--target", cache / "site", "parameterized"], check=True)
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the suites as the package `tests`, with stand-ins for the modules that are absent."""
    with tarfile.open(archive) as tar:
        members = [member for member in tar if member.name.split("/")[1:2] == ["tests"]]
        tar.extractall(folder, members, filter="data")
    shutil.move(folder / archive.name.removesuffix(".tar.gz") / "tests", folder / "tests")
    for name, content in ABSENT.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for package in (folder / "tests", *(folder / "tests").glob("*/")):
        if package.is_dir():
            (package / "__init__.py").touch()


def run_suites(folder: Path, cache: Path, chosen: list[str]) -> dict[tuple[str, str], tuple[str, str]]:
    """Run the suites, and return the outcome and the message of each test by class and name."""
    places = [folder, cache / "site", HERE.parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, places)),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    report = folder / "report.xml"
    options = [
        "-c",
        os.devnull,
        "--rootdir",
        folder,
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "--junit-xml",
        report,
    ]
    workers = os.environ.get("CONFORMITY_WORKERS", "2")
    command = [
        sys.executable,
        "-m",
        "pytest",
        *options,
        "-n",
        workers,
        "--dist",
        "loadscope",
        HERE / "suites.py",
        *chosen,
    ]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    (cache / "last_run.txt").write_text(done.stdout)
    if not report.exists():
        sys.exit(done.stdout)
    results = {}
    for case in ElementTree.parse(report).iter("testcase"):
        outcome, message = "passed", ""
        for child in case:
            if child.tag in ("failure", "error", "skipped"):
                outcome, message = ("skipped" if child.tag == "skipped" else "failed"), child.get("message") or ""
        results[case.get("classname").rpartition(".")[2], case.get("name")] = outcome, message
    if not results:
        sys.exit(done.stdout)
    return results


def judge(results: dict[tuple[str, str], tuple[str, str]]) -> tuple[list[tuple[str, str, str]], list[str]]:
    """Return class, test and message of the failures that neither the control has nor an exception excuses; and unused exceptions."""
    exceptions = tomllib.loads((HERE / "exceptions.toml").read_text())["exception"]
    rules = [(owner, test, row["reason"]) for row in exceptions for owner in row["classes"] for test in row["tests"]]
    failed = {key: " ".join(message.split()) for key, (outcome, message) in results.items() if outcome == "failed"}
    shared = {(CONTROLS[name], test, message) for (name, test), message in failed.items() if name in CONTROLS}
    used, found = set(), []
    for (name, test), message in failed.items():
        kind = name.partition("_")[0].replace("Init", "Model")
        if name in CONTROLS or (kind, test, message) in shared:
            continue
        excused = {reason for owner, rule, reason in rules if fnmatch(name, owner) and fnmatch(test, rule)}
        used |= excused
        if not excused:
            found.append((name, test, message[:300]))
    return sorted(found), [row["reason"] for row in exceptions if row["reason"] not in used]


def main() -> int:
    """Fetch, run, print the table; return 1 if a failure is unexcused."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    cache = Path(os.environ.get("CONFORMITY_CACHE", default / "kinoclip" / "conformity"))
    archive = fetch(cache)
    with tempfile.TemporaryDirectory() as folder:
        unpack(archive, Path(folder))
        results = run_suites(Path(folder), cache, sys.argv[1:])
    wrong, unused = judge(results)
    print(
        f"transformers {version('transformers')}\n\n| class | passed | failed | of them excused | skipped |\n|---|---|---|---|---|"
    )
    for name in sorted({name for name, _ in results}):
        counts = Counter(outcome for (owner, _), (outcome, _) in results.items() if owner == name)
        bad = sum(owner == name for owner, *_ in wrong)
        print(f"| {name} | {counts['passed']} | {counts['failed']} | {counts['failed'] - bad} | {counts['skipped']} |")
    for name, test, message in wrong:
        print(f"\n{name}.{test}: {message}")
    if not sys.argv[1:]:  # all suites
        for reason in unused:
            print(f"\nThis exception excuses nothing: {reason}")
    return int(bool(wrong or (unused and not sys.argv[1:])))


if __name__ == "__main__":
    sys.exit(main())
