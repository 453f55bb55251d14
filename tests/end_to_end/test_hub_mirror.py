"""Loading by name from a Hub server that somebody else wrote: `pip install olah`, which serves folders of git."""

import json
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from hub_clients import LOAD, run_client

from kinoclip.hub.converting import convert

OLAH = shutil.which("olah-cli") or shutil.which("olah-cli", path=str(Path(sys.executable).parent))
NAME = "org/bike-mini"
LABELS = ["red circle", "blue square", "green star"]

pytestmark = pytest.mark.skipif(OLAH is None, reason="the server olah is not installed: pip install olah")


def git(folder: Path, *command: str) -> str:
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", *identity, *command], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def resolve_main(cache: Path, commit: str) -> None:
    """Tell olah which commit `main` is, in the file where it would have noted an answer of the real Hub.

    Offline it finds files of a branch in the git folder, but asks this cache alone whether a file that is not there could be
    elsewhere, and without an answer says 401 RepoNotFound instead of 404 EntryNotFound: a checkpoint without any optional
    file, as all are, would be no checkpoint.
    """
    note = cache / "api" / "models" / NAME / "revision" / "main" / "resolved_commit.json"
    note.parent.mkdir(parents=True)
    note.write_text(json.dumps({"status_code": 200, "headers": {}, "cached_at": time.time()}))
    note.with_name(f"{note.name}.body").write_text(commit)


@contextmanager
def serve_mirror(folder: Path, mirror: Path):
    """Run olah over a folder of repositories; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = f"""
[basic]
host = "127.0.0.1"
port = {port}
repos-path = "{folder / "cache"}"
mirrors-path = ["{mirror}"]
[accessibility]
offline = true
"""
    (folder / "olah.toml").write_text(settings)
    with (folder / "olah.log").open("wb") as log:
        server = subprocess.Popen([OLAH, "-c", folder / "olah.toml"], cwd=folder, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_for(f"{url}/api/models/{NAME}/revision/main", server, folder / "olah.log")
            yield url
        finally:
            server.terminate()
            server.wait(timeout=30)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        try:
            urlopen(address).close()
            return
        except HTTPError:
            raise
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(log.read_text())


@pytest.fixture(scope="module")
def mirror(tmp_path_factory):
    """The embedded model as a repository of git, served by olah: address and commit."""
    folder = tmp_path_factory.mktemp("olah")
    repository = folder / "mirror" / "models" / NAME
    for _ in convert("bike", "mini", repository, labels=LABELS):
        pass
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-q", "-m", "Publish bike-mini")
    commit = git(repository, "rev-parse", "HEAD")
    resolve_main(folder / "cache", commit)
    with serve_mirror(folder, folder / "mirror") as url:
        yield url, commit


@pytest.fixture(scope="module", params=["imported", "remote"])
def loaded(request, mirror, video_path, tmp_path_factory):
    """What a process found by name on the default revision, its way, and its cache."""
    home = tmp_path_factory.mktemp(f"home-{request.param}")
    done = run_client(mirror[0], home, "-c", LOAD, NAME, video_path, request.param)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), request.param, home


def test_config_model_processor_and_both_pipelines_load_by_name(loaded):
    kinds, closed, free = loaded[0]
    assert kinds == ["BikeConfig", "BikeModel", "BikeProcessor"]
    assert closed in LABELS
    assert free in ("red circle", "blue ring")


def test_what_was_loaded_once_loads_without_a_network(loaded, video_path):
    found, way, home = loaded
    done = run_client("http://127.0.0.1:9", home, "-c", LOAD, NAME, video_path, way, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == found


def test_a_commit_can_be_named(mirror, video_path, tmp_path):
    url, commit = mirror
    done = run_client(url, tmp_path, "-c", LOAD, NAME, video_path, "imported", commit)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])[0] == ["BikeConfig", "BikeModel", "BikeProcessor"]
