"""Hooks of MkDocs: pages from files outside of `docs/`, notebooks, equations, source code and the table of models.

The pages are written for GitHub. On the site
- links to files outside of `docs/` lead to their page (`PAGES`) or to the repository,
- a paragraph that is a link from the name of an object to its file is followed by the source code of the object,
- a page in `methods/` gets the head of the modeling file and the reference of its classes,
- a block that no test runs gets the reason as its title,
- `<!-- models -->` is replaced by the table of models.
"""

import ast
import os
import re
import sys
import textwrap
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from models import table_of_models

ROOT = Path(__file__).parents[2]
# files outside of docs/ that the site shows, with their address
PAGES = {
    "README.md": "index.md",
    "examples/benchmark/README.md": "project/benchmarks.md",
    "examples/export/README.md": "project/export_measurements.md",
    "examples/kinoshapes/README.md": "project/kinoshapes.md",
    "examples/kinofigures/RESULTS.md": "project/kinofigures_results.md",
    "examples/benchmark/peers.svg": "assets/peers.svg",
    **{
        f".github/{name}.md": f"project/{name.lower()}.md"
        for name in ("CHANGELOG", "CONTRIBUTING", "FIDELITY", "RELIABILITY", "SCALING", "SECURITY", "STYLE")
    },
    **{f".github/{path.name}": f"assets/{path.name}" for path in (ROOT / ".github").glob("*.[jps][pnv]g")},
    **{
        f"examples/kinofigures/{path.name}": f"assets/{path.name}"
        for path in (ROOT / "examples/kinofigures").glob("*.svg")
    },
}
_PICTURES: set[str] = set()  # outputs of notebooks, as if they were files
_LINK = re.compile(r"(\]\()([^)#\s]+)(#[^)\s]*)?(?=\))")
_CODE_LINK = re.compile(r"^\[`([\w.]+)`\]\(([^)\s]+\.py)\)$", re.M)
_NOT_RUN = re.compile(r"^```(\w+) no-run \((.*)\)$", re.M)
_INLINE = re.compile(r"\$([^$\n]+)\$")
_TITLE = re.compile(r"^# .*\n", re.M)


def on_config(config: Any) -> None:
    """Render fences with the language `math`, which GitHub does too."""
    fence = {"name": "math", "class": "equation", "format": render_equation}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}


def on_files(files: Any, config: Any) -> None:
    """Add the pages of `PAGES`, and a page for each notebook."""
    from mkdocs.structure.files import File
    from nbconvert import MarkdownExporter

    for source, uri in PAGES.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / source)))
    for file in [file for file in files if file.src_uri.endswith(".ipynb")]:
        files.remove(file)
        text, resources = MarkdownExporter().from_filename(file.abs_src_path)
        uri = file.src_uri.removesuffix(".ipynb")
        for name, content in resources["outputs"].items():
            text = text.replace(f"({name})", f"({Path(uri).name}_{name})")
            files.append(File.generated(config, f"{uri}_{name}", content=content))
            _PICTURES.add(f"docs/{uri}_{name}")
        files.append(File.generated(config, f"{uri}.md", content=text))


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Expand a page and rewrite its links."""
    own = {uri: source for source, uri in PAGES.items()}
    source = own.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    if page.file.src_uri.startswith("methods/"):
        markdown = _INLINE.sub(lambda equation: _to_mathml(equation[1], "inline"), markdown)
        markdown = _add_paper(markdown, Path(page.file.src_uri).stem)
    markdown = _NOT_RUN.sub(r'```\1 title="\2"', markdown)
    if "<!-- models -->" in markdown:
        markdown = markdown.replace("<!-- models -->", table_of_models())
    markdown = _CODE_LINK.sub(lambda link: _show_code(link, ROOT / source), markdown)
    repository = config.extra["repository"]
    return _LINK.sub(lambda link: link[1] + resolve_link(source, link[2], repository) + (link[3] or ""), markdown)


def resolve_link(source: str, target: str, repository: str) -> str:
    """Return the target of a link on the page made from `source`: a page of the site, or a file of the repository."""
    if "://" in target or target.startswith("mailto:"):
        return target
    path = os.path.normpath(Path(source).parent / target)
    here = PAGES.get(source, source.removeprefix("docs/"))
    if not (ROOT / path).exists() and path not in _PICTURES:
        raise FileNotFoundError(f"{source} links to {target}, which does not exist. Correct the link.")
    in_docs = path.startswith("docs/") and not (ROOT / path).is_dir()
    uri = PAGES.get(path) or (path.removeprefix("docs/") if in_docs else None)
    if uri is None:
        return f"{repository}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path}"
    return os.path.relpath(re.sub(r"\.ipynb$", ".md", uri), Path(here).parent)


def render_equation(source: str, *_: object, **__: object) -> str:
    """Render LaTeX as MathML, which browsers display without a script."""
    return f'<div class="equation">{_to_mathml(source, "block")}</div>'


def _to_mathml(source: str, display: str) -> str:
    from latex2mathml.converter import convert

    return str(convert(source, display=display))


def read_code(path: Path, name: str) -> str:
    """Return the source code of `function`, `Class` or `Class.method` of a file, without its docstring.

    A name that the file does not define is a `ValueError`.
    """
    text = path.read_text(encoding="utf-8")
    node: Any = ast.parse(text)
    for part in name.split("."):
        found = [child for child in node.body if getattr(child, "name", None) == part]
        if not found:
            raise ValueError(f"{path.name} must define {name}, which a page shows. Correct the page.")
        node = found[0]
    first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
    lines = text.splitlines()[first - 1 : node.end_lineno]
    if ast.get_docstring(node) and len(node.body) > 1:
        docstring = node.body[0]
        del lines[docstring.lineno - first : docstring.end_lineno - first + 1]
    return textwrap.dedent("\n".join(lines)) + "\n"


def _show_code(link: re.Match[str], page: Path) -> str:
    path = (page.parent / link[2]).resolve()
    return f'```python title="{path.relative_to(ROOT / "src")}"\n{read_code(path, link[1])}```'


@cache
def _read_method(name: str) -> Any:
    from kinoclip.hub.cards import read_paper
    from kinoclip.methods import METHODS

    return METHODS[name], read_paper(METHODS[name].config())


def _add_paper(markdown: str, name: str) -> str:
    """Put the paper below the title, and the differences from it and the reference at the end."""
    method, paper = _read_method(name)
    head = f"*{paper.title}*. {paper.authors}. [{paper.venue}]({paper.link}).\n\n{paper.summary}\n"
    # lines of a docstring that end with a colon introduce a list, which Markdown separates by an empty line
    differences = re.sub(r"^(?!- |  |\|)(.+)\n(?=- )", r"\1\n\n", paper.differences, flags=re.M)
    classes = "\n\n".join(
        f"::: {one.__module__}.{one.__name__}" for one in (method.config, method.model, method.processor)
    )
    markdown = _TITLE.sub(lambda title: f"{title[0]}\n{head}", markdown, count=1)
    return f"{markdown}\n## Differences\n\n{differences}\n\n## Reference\n\n{classes}\n"
