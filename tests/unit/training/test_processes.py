from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file

from kinoclip.training.processes import asked_processes, check_processes

CONFIGS = Path(__file__).parents[3] / "examples" / "accelerate"
LAUNCH = ["/venv/bin/python", "/venv/bin/accelerate", "launch"]


@pytest.mark.parametrize(
    ("command", "asked"),
    [
        (["--num_processes", "2", "train.py"], 2),
        (["--num-processes=4", "train.py"], 4),
        (["train.py", "--num_processes_of_mine", "8"], None),
    ],
)
def test_the_command_line_of_the_launch_says_how_many_are_asked_for(command, asked):
    assert asked_processes(None, [*LAUNCH, *command]) == asked


def test_its_config_file_says_it_too(tmp_path):
    config = tmp_path / "cpu.yaml"
    config.write_text("distributed_type: MULTI_CPU\nnum_processes: 2\n")
    assert asked_processes(None, [*LAUNCH, "--config_file", str(config), "train.py"]) == 2


def test_fewer_processes_than_asked_for_are_refused_with_the_way_to_get_them(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match=r"asked for 2 processes, but this is 1 .*ACCELERATE_USE_CPU=true torchrun"):
        check_processes(1)
    check_processes(2)


@pytest.mark.parametrize("config", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_accelerate_reads_every_config_file_of_the_examples(config):
    read = load_config_from_file(str(config))
    assert read.num_processes > 1
    assert asked_processes(None, [*LAUNCH, "--config_file", str(config)]) == read.num_processes
