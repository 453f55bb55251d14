"""Processes that know one Hub only, and what they do there."""

import os
import subprocess
import sys
from pathlib import Path

from hub_server import TOKEN

# NAME VIDEO WAY [REVISION]: kinds of config, model and processor, and the answers of both pipelines
LOAD = """
import json, sys
name, video, way, *revision = sys.argv[1:]
if way == "imported":
    import kinoclip
from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline
options = {"trust_remote_code": True} if way == "remote" else {}
options |= {"revision": revision[0]} if revision else {}
kinds = [type(kind.from_pretrained(name, **options)).__name__ for kind in (AutoConfig, AutoModel, AutoProcessor)]
closed = pipeline("video-classification", model=name, **options)(video)
free = pipeline("zero-shot-video-classification", model=name, **options)(video, candidate_labels=["red circle", "blue ring"])
print(json.dumps([kinds, closed[0]["label"], free[0]["label"]]))
"""


def run_client(url: str, home: Path, *command: object, **changes: str) -> subprocess.CompletedProcess:
    """Run Python with a home of its own and the Hub at this address."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": url, "HF_TOKEN": TOKEN, "HF_HOME": str(home), "OMP_NUM_THREADS": "1", **changes}
    return subprocess.run(
        [sys.executable, *map(str, command)], env=environment, capture_output=True, text=True, timeout=250, check=False
    )
