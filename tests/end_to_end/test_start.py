"""Cold starts of Python: what is imported, and when; an import registers the methods."""

import subprocess
import sys

COLD = """
import sys
from kinoclip.cli import main
for arguments in ("--help", "--version", "classify --help", "train --help"):
    try:
        main(arguments.split())
    except SystemExit as end:
        assert not end.code
print("loaded:", *(name for name in ("torch", "transformers", "av", "PIL") if name in sys.modules))
for name in [name for name in sys.modules if name.partition(".")[0] == "kinoclip"]:
    del sys.modules[name]
import kinoclip
from transformers import AutoConfig
public = [name for name in dir(kinoclip) if not name.startswith("__")]
print(type(AutoConfig.for_model("kinoclip_bike")).__name__, public == kinoclip.__all__)
print(kinoclip.BikeModel.__name__, hasattr(kinoclip, "nothing"))
"""


def run_python(*arguments, folder=None):
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)


def test_help_imports_no_library_and_an_import_registers_the_methods():
    done = run_python("-c", COLD)
    assert done.returncode == 0, done.stderr
    assert all(command in done.stdout for command in ("classify", "convert", "profile", "demo"))
    assert done.stdout.splitlines()[-3:] == ["loaded:", "BikeConfig True", "BikeModel False"]


def test_python_m_is_the_same_command():
    done = run_python("-m", "kinoclip", "train")
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: kinoclip train" in done.stderr
    assert "Traceback" not in done.stderr


FAILURES = """
import sys
import kinoclip
from kinoclip.cli import main
for arguments in {commands!r}:
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    assert code == 2, arguments
    print(*arguments, "loaded:", *(name for name in ("torch", "transformers") if name in sys.modules))
"""
MISTAKES = [
    ["classify", "nope.mp4", "--labels", "a,b"],
    ["classify", "here.mp4"],
    ["classify", "here.mp4", "--labels", " , "],
    ["classify", "here.mp4", "--labels", "a,a"],
    ["classify", "here.mp4", "--labels-file", "nope.txt"],
    ["classify", "here.mp4", "--labels", "a,b", "--model", "nope"],
    ["classify", "here.mp4", "--labels", "a,b", "--top-k", "0"],
    ["classify", "here.mp4", "--labels", "a,b", "--frames", "0"],
    ["classify", "here.mp4", "--labels", "a,b", "--set", "rate"],
    ["classify", "here.mp4", "--labels", "a,b", "--descriptions", "nope.json"],
    ["suggest", "nope.mp4", "--labels", "a,b", "--output", "a.csv"],
    ["tune", "nope.csv", "--output", "tuned"],
    ["embed", "nope.mp4", "--output", "a.safetensors"],
    ["search", "nope.safetensors", "diving"],
    ["attributes", "nope.mp4", "--lexicon", "kinetics400", "--output", "a.json"],
    ["attributes", "--data", "nope", "--lexicon", "kinetics400", "--output", "a.json"],
    ["check", "nope"],
    ["live", "nope.mp4", "--labels", "a,b"],
    ["evaluate", "mini", "--data", "nope"],
    ["evaluate", "nope", "--data", "."],
    ["train", "finetune", "--data", "nope", "--output", "trained"],
    ["reproduce", "bike", "--seeds", "0", "--output", "reproduced"],
    ["convert", "bike", "nope.pt", "--output", "converted"],
    ["publish", "nope", "org/name"],
    ["publish", ".", "org/name", "--report", "nope.json"],
    ["export", "nope", "--output", "exported"],
    ["space", "--model", "nope"],
    ["corpus", "nope.txt", "--output", "a.jsonl"],
    ["translate", "nope.txt", "--output", "a.json"],
    ["demo", "--videos", "0"],
]


def test_wrong_paths_labels_and_options_are_reported_before_torch_is_imported(tmp_path):
    (tmp_path / "here.mp4").touch()
    done = run_python("-c", FAILURES.format(commands=MISTAKES), folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [" ".join([*arguments, "loaded:"]) for arguments in MISTAKES]
    assert len(done.stderr.splitlines()) == len(MISTAKES)  # each is one line


LAZY = """
import os, sys
import torch, torchvision

def run(code):
    child = os.fork()
    if not child:
        known = set(sys.modules)
        import kinoclip
        added = {name.partition(".")[0] for name in set(sys.modules) - known}
        print(*sorted(added & {"torch", "torchvision", "transformers"}), end="")
        exec(code)
        sys.stdout.flush()
        os._exit(0)
    os.waitpid(child, 0)

LOAD = "import transformers; print(type(transformers.{}.from_pretrained(sys.argv[1])).__name__)"
PIPELINE = "from transformers import pipeline; print(pipeline('zero-shot-video-classification', sys.argv[1]).task)"
run(LOAD.format("AutoProcessor"))
run(PIPELINE)
run(f"import kinoclip.inference.pipelines; {PIPELINE}")
import transformers.models.auto.video_processing_auto, transformers.pipelines
for name in ("AutoConfig", "AutoModel", "AutoProcessor", "AutoVideoProcessor"):
    run(LOAD.format(name))
run(PIPELINE)
"""


def test_an_import_adds_no_library_and_transformers_finds_a_checkpoint_whichever_is_imported_first(bike_folder):
    done = run_python("-c", LAZY, bike_folder)
    assert done.returncode == 0, done.stderr
    loaded = ["BikeConfig", "BikeModel", "BikeProcessor", "RecognizerVideoProcessor"]
    task = "zero-shot-video-classification"
    assert done.stdout.splitlines() == ["BikeProcessor", task, task, *loaded, task]
