"""Every command and code block of README and docs runs as printed, and prints what the page shows.

A `python` block is followed by a `text` block with its output. In a `console` block, lines that begin with `$ ` are commands and
the others their output. A block marked `no-run` needs a network, a GPU or hours, and says which. The blocks of a page run in order, in a
folder of their own in which `kinoclip demo` was run. The cells of a notebook run as one block, and print the stored outputs.
"""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def read_steps(page):
    """Yield language, content and expected output of each block and command of a page."""
    blocks = re.findall(r"```(\w*)([^\n]*)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for (language, mark, text), (following, _, output) in zip(blocks, [*blocks[1:], ("", "", "")], strict=False):
        assert language, f"{page.name} has a block without a language: {text}"
        if language == "python" and "no-run" not in mark:
            assert following == "text", f"no output below {text}"
            yield language, text, output
        elif language == "console" and "no-run" in mark:
            assert "(" in mark, f"{page.name} does not say why a block is not run: {text}"
        elif language == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                yield language, command, printed


def read_notebook(path):
    """Return the code of a notebook as a script, in which each cell displays its last value, and the stored outputs."""
    code, printed = ["import sys"], []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            if isinstance(last := tree.body[-1], ast.Expr):
                last.value = ast.Call(ast.Name("sys.displayhook"), [last.value], [])
            code.append(ast.unparse(tree))
            for output in cell["outputs"]:
                printed += [*output.get("text", ()), *output.get("data", {}).get("text/plain", ())]
                printed += ["\n"] * ("data" in output)
    assert printed, f"{path.name} has no stored outputs. Run `make notebooks`."
    return "\n".join(code), "".join(printed)


STEPS = [(page, *step) for page in PAGES for step in read_steps(page)]
STEPS += [(path, "python", *read_notebook(path)) for path in NOTEBOOKS]
NAMES = [f"{page.stem}: {content.splitlines()[0]}" for page, _, content, _ in STEPS]


@pytest.fixture(scope="module")
def run(tmp_path_factory, programs):
    """A function that runs a line of a shell in the folder of a page."""
    demo = tmp_path_factory.mktemp("demo")

    def run_in(folder, command):
        done = subprocess.run(
            command, shell=True, cwd=folder, capture_output=True, text=True, check=False, env=programs
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run_in(demo, "kinoclip demo")
    folders = {}

    def run_line(page, command):
        if page not in folders:
            folders[page] = tmp_path_factory.mktemp(page.stem)
            (folders[page] / "demo").symlink_to(demo / "demo")
        return run_in(folders[page], command)

    return run_line


def check_output(output, printed):
    """Compare words exactly, decimals with a tolerance for other processors; no times of files, hashes of weights or addresses."""
    varying = r'("changed": )\d+|("job": )"[0-9a-f-]+"| at 0x\w+'
    output, printed = (re.sub(varying, r"\1\2", text) for text in (output, printed))
    decimals = re.compile(r"\d+\.\d+(?:e-\d+)?|\d+e-\d+")
    assert decimals.sub("N", output.strip()) == decimals.sub("N", printed.strip())
    shown = [float(number) for number in decimals.findall(output)]
    assert shown == pytest.approx([float(number) for number in decimals.findall(printed)], rel=0.02, abs=2e-3)


@pytest.mark.parametrize(("page", "language", "content", "printed"), STEPS, ids=NAMES)
def test_a_block_prints_what_the_page_shows(page, language, content, printed, run, tmp_path):
    if language == "python":
        (tmp_path / "block.py").write_text(content)
        content = f"python {tmp_path / 'block.py'}"
    check_output(run(page, content), printed)


def test_the_readme_shows_code_and_commands():
    assert {language for page, language, _, _ in STEPS if page.name == "README.md"} == {"python", "console"}


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / ".github").glob("*.md"))], ids=lambda page: page.name)
def test_links_within_the_repository_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing
