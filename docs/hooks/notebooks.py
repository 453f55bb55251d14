"""Run notebooks and store their outputs: python docs/hooks/notebooks.py NOTEBOOK..."""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def run(path: Path) -> None:
    """Run a notebook in an empty folder; keep what it prints and its pictures, without progress bars and HTML."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, resources={"metadata": {"path": folder}}, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            for output in cell.outputs:
                for kind in set(output.get("data", ())) - {"text/plain", "image/png"}:
                    del output.data[kind]
    notebook.metadata.language_info = {"name": "python"}
    nbformat.write(notebook, path)


for argument in sys.argv[1:]:
    run(Path(argument))
