"""Every command and code block of the README runs as printed, and prints what is printed there.

A `python` block is followed by a `text` block with its output. In a `console` block, lines that begin with `$ ` are commands and
the others their output. A block marked `no-run` needs a network or hours, and says so. A block may
use what those above it left, so all of them must run in one process, in order.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```(\w+)([^\n]*)\n(.*?)```", README.read_text(), flags=re.DOTALL)


def read_steps():
    """Give what there is to run, as it stands from top to bottom, and what it prints."""
    for (kind, mark, text), (following, _, output) in zip(BLOCKS, [*BLOCKS[1:], ("", "", "")], strict=True):
        if kind == "python":
            assert following == "text", f"there is no output below {text}"
            yield "python", text, output
        elif kind == "console" and "no-run" not in mark:
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                yield "command", command, printed


STEPS = list(read_steps())


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


@pytest.mark.parametrize(("kind", "content", "printed"), STEPS, ids=[step[1].split("\n")[0] for step in STEPS])
def test_a_block_prints_what_stands_below_it(kind, content, printed, workplace):
    if kind == "python":
        (workplace / "block.py").write_text(content)
        content = f"{sys.executable} block.py"
    check_output(run(content, workplace), printed)


def test_the_readme_shows_code_and_commands():
    assert {kind for kind, _, _ in STEPS} == {"python", "command"}
