"""The committed seeds are read as ever, and in `make chaos` atheris goes on from them, guided by coverage, for a bounded time."""

import importlib.util
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from chaos import fuzz_reading
from chaos.fuzz_reading import SEEDS, TARGETS
from chaos.limits import IS_FULL

SECONDS = 30


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_of_the_fuzz(target, tmp_path, hold):
    outcomes = {file.name: TARGETS[target](file.read_bytes(), tmp_path) for file in sorted((SEEDS / target).iterdir())}
    assert len(outcomes) > 5
    hold(outcomes)


@pytest.mark.skipif(
    not IS_FULL or importlib.util.find_spec("atheris") is None, reason="part of `make chaos`, and needs atheris"
)
@pytest.mark.parametrize("target", TARGETS)
def test_inputs_that_coverage_leads_to(target, tmp_path, record_property):
    """A crash leaves its input in the folder that is named: keep it in `seeds`, and mend what it found."""
    corpus, log = tmp_path / "corpus", tmp_path / "log"
    corpus.mkdir()
    bounds = [f"-max_total_time={SECONDS}", "-timeout=30", "-rss_limit_mb=3000", "-max_len=20000", "-seed=20261121"]
    done = subprocess.run(
        [sys.executable, fuzz_reading.__file__, target, str(log), *bounds, str(corpus), str(SEEDS / target)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    letters = Counter(log.read_text())
    lost = sum(letters.values()) - letters["f"] - letters["e"]
    record_property(
        "outcomes", {"frames": letters["f"], "error": letters["e"], "lost": max(lost, done.returncode != 0)}
    )
    assert done.returncode == 0, f"{sorted(tmp_path.glob('crash-*'))}\n{done.stderr[-3000:]}"
