"""Every command and code block of the README runs as printed, and prints what is printed there.

A `python` block is followed by a `text` block with its output. In a `console` block, lines that begin with `$ ` are commands and
the others their output. A block marked `no-run` needs a network or hours, and says so.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)([^\n]*)\n(.*?)```", README.read_text(), flags=re.DOTALL)
PYTHON = [(code, BLOCKS[i + 1]) for i, (kind, _, code) in enumerate(BLOCKS) if kind == "python"]
COMMANDS = [
    (part.split("\n", 1)[0], part.split("\n", 1)[1] if "\n" in part else "")
    for kind, mark, text in BLOCKS
    if kind == "console" and "no-run" not in mark
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder in which the demo was run."""
    folder = tmp_path_factory.mktemp("readme")
    run("kinoclip demo", folder)
    return folder


def run(command, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, shell=True, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_output(output, printed):
    """Compare words to the letter, and numbers with decimals up to what another processor may round differently."""
    decimals = re.compile(r"\d+\.\d+(?:e-\d+)?|\d+e-\d+")
    assert decimals.sub("N", output.strip()) == decimals.sub("N", printed.strip())
    shown = [float(number) for number in decimals.findall(output)]
    assert shown == pytest.approx([float(number) for number in decimals.findall(printed)], abs=2e-3)


@pytest.mark.parametrize(("code", "output"), PYTHON, ids=[code.split("\n")[0] for code, _ in PYTHON])
def test_a_python_block_prints_what_stands_below_it(code, output, workplace):
    kind, _, printed = output
    assert kind == "text"
    (workplace / "block.py").write_text(code)
    check_output(run(f"{sys.executable} block.py", workplace), printed)


@pytest.mark.parametrize(("command", "printed"), COMMANDS, ids=[command for command, _ in COMMANDS])
def test_a_command_prints_what_stands_below_it(command, printed, workplace):
    check_output(run(command, workplace), printed)


def test_the_readme_shows_code_and_commands():
    assert PYTHON
    assert COMMANDS
