"""Training on several machines: the script for SLURM with stand-ins for its programs, and the configurations of accelerate."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chaos.limits import IS_FULL
from clip_files import write_clips

from kinoclip.kinoshapes import kinoshapes_clips

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "slurm" / "train.sbatch"
CONFIGS = sorted((ROOT / "examples" / "accelerate").glob("*.yaml"))
# `srun` runs a command once per machine, and passes SIGTERM on
SRUN = """#!/bin/bash
shift
trap 'kill -TERM $(jobs -p)' TERM
for node in 0 1; do SLURM_NODEID=$node "$@" & done
code=0
for job in $(jobs -p); do wait "$job" || code=$?; done
exit $code
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$(dirname "$0")/asked"
[ "$1" = show ] && printf '127.0.0.1\\n127.0.0.1\\n'
exit 0
"""


@pytest.fixture
def slurm(tmp_path):
    """The environment of a job on two machines without GPUs, in which `bin` holds the programs of SLURM."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, content in (("srun", SRUN), ("scontrol", SCONTROL)):
        (folder / name).write_text(content)
        (folder / name).chmod(0o755)
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n[1-2]"}
    cpu = {"CONFIG": "examples/accelerate/cpu.yaml", "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return {**os.environ, **job, **cpu, "PATH": path}


@pytest.mark.skipif(not IS_FULL, reason="`make chaos`: four processes that import torch")
def test_two_machines_train_one_run(slurm, tmp_path):
    pytest.importorskip("accelerate", reason="pip install 'kinoclip[train]'")
    clips = kinoshapes_clips(6, labels=["red circle", "red star", "red ring"])
    data = write_clips(tmp_path / "data", clips, "{clip.shape}/{number}.mp4")
    options = ["--data", data, "--output", tmp_path / "run", "--set", "training.epochs=1"]
    command = ["bash", SCRIPT, "kinoshapes/bike", *map(str, options)]
    done = subprocess.run(command, cwd=ROOT, env=slurm, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "training.json").read_text())["processes"] == 2


def test_a_launcher_per_machine_knows_its_rank_and_gets_the_signal_after_which_the_job_is_queued_again(
    slurm, tmp_path
):
    accelerate = tmp_path / "bin" / "accelerate"
    lines = [
        'trap "touch $0.$SLURM_NODEID.ended; exit 143" TERM',
        'echo "$@" > $0.$SLURM_NODEID',
        "while :; do sleep 0.05; done",
    ]
    accelerate.write_text("\n".join(["#!/bin/bash", *lines, ""]))
    accelerate.chmod(0o755)
    job = subprocess.Popen(["bash", SCRIPT, "recipe", "--data", "my data"], cwd=ROOT, env=slurm)
    places = [accelerate.with_name(f"accelerate.{node}") for node in (0, 1)]
    while not all(place.exists() and place.read_text() for place in places):
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) == 143
    assert all(place.with_name(f"{place.name}.ended").exists() for place in places)
    assert (tmp_path / "bin" / "asked").read_text().splitlines()[-1] == f"requeue {os.getpid()}"
    port = 20000 + os.getpid() % 20000
    expected = (
        "launch --config_file examples/accelerate/cpu.yaml --num_machines 2 --num_processes 2 --machine_rank {} "
        f"--main_process_ip 127.0.0.1 --main_process_port {port} -m kinoclip train recipe --data my data --resume"
    )
    assert [place.read_text().strip() for place in places] == [expected.format(node) for node in (0, 1)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_accelerate_knows_every_key_of_a_configuration(path):
    config_args = pytest.importorskip("accelerate.commands.config.config_args", reason="pip install 'kinoclip[train]'")
    config = config_args.load_config_from_file(str(path))
    assert config.num_machines == 1
