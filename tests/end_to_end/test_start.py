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
import shlex, sys
import kinoclip
from kinoclip.cli import main
for command in {commands!r}:
    code = main(shlex.split(command))
    print(command, code, *(name for name in ("torch", "transformers") if name in sys.modules))
"""
HERE, JOB = "classify here.mp4", "classify here.mp4 --labels a,b"
NO_HUB_ID = "'nope' is neither a folder nor a hub id such as 'org/bike-vitl14'. Check the name."
NO_LABELS = 'carries no labels of its own. Give them: --labels "diving,archery", or --labels-file.'
CHOSEN = "--budget chooses --frames, --clips, --set, --dtype and --backend, without --compile: leave them out."
COSTS = "--spans, --explain, --pictures, --lexicon and --features, which cost more or less."
NEITHER = "Give either PATH or --data, which names a data set."
# commands in a folder that has an empty file here.mp4, and how their messages end
MISTAKES = {
    "classify --labels a,b": "Name videos, or folders of videos.",
    "classify nope.mp4 --labels a,b": "nope.mp4 does not exist.",
    HERE: NO_LABELS,
    f"{HERE} --model mini": NO_LABELS,
    f"{HERE} --labels ' , '": "Labels are missing. Pass at least one, such as labels=['diving', 'archery'].",
    f"{HERE} --labels a,a": "The label 'a' is given twice. Leave one of them out.",
    f"{HERE} --labels-file nope.txt": "The file of labels nope.txt does not exist.",
    f"{HERE} --labels-file kinetics40": "The nearest known one is 'kinetics400'.",
    f"{HERE} --background a": "--background competes with labels: give --labels too.",
    f"{HERE} --second-labels a.json": "--second-labels belong to labels: give --labels too.",
    f"{JOB} --model nope": NO_HUB_ID,
    f"{JOB} --model here.mp4": "into one with `kinoclip convert METHOD CHECKPOINT --output DIR`.",
    f"{JOB} --top-k 0": "--top-k must be at least 1, got 0.",
    f"{JOB} --frames 0": "--frames must be at least 1, got 0.",
    f"{JOB} --batch-size 0": "--batch-size must be at least 1, got 0.",
    f"{JOB} --clips 0": "--clips must be at least 1, got 0.",
    f"{JOB} --threshold 1.5": "--threshold must be a probability from 0 to 1, got 1.5.",
    f"{JOB} --set rate": "--set must be KEY=VALUE, such as --set num_frames=16, got rate.",
    f"{JOB} --descriptions nope.json": "The file of descriptions nope.json does not exist.",
    f"{JOB} --lexicon-clip a/b": "--lexicon-clip needs phrases: give --lexicon.",
    f"{JOB} --picture-format gif": "--picture-format must be png, html or json, got gif.",
    f"{JOB} --features f --explain": "--explain, --pictures and --lexicon cannot be used with --features.",
    f"{JOB} --features f --spans": "--spans cannot be used with --explain, --pictures, --lexicon and --features.",
    f"{JOB} --spans --fps 0": "--fps must be above 0, and --min-seconds at least 0.",
    f"{JOB} --workers 2": "--workers belongs to --on.",
    f"{JOB} --shard-size 2": "--shard-size belongs to --on.",
    f"{JOB} --budget soon": "or a share of the full cost such as 0.25, got 'soon'.",
    f"{JOB} --budget 1s --frames 4": CHOSEN,
    f"{JOB} --budget 1s --set merge_r=1": CHOSEN,
    f"{JOB} --budget 1s --explain": COSTS,
    f"{JOB} --budget 1s --spans": COSTS,
    "suggest nope.mp4 --labels a,b --output a.csv": "nope.mp4 does not exist.",
    "suggest here.mp4 --labels a,b --output a.jsonl": "--output must be a .csv file, got a.jsonl.",
    "suggest here.mp4 --output a.csv": NO_LABELS,
    "tune nope.csv --output tuned": "nope.csv does not exist. Make it with `kinoclip suggest`.",
    "embed nope.mp4 --output a.safetensors": "nope.mp4 does not exist.",
    "search nope.safetensors diving": "nope.safetensors does not exist. Make it with `kinoclip embed`.",
    "search nope.safetensors diving --top-k 0": "--top-k must be at least 1, got 0.",
    "attributes nope.mp4 --lexicon kinetics400 --output a.json": "nope.mp4 does not exist.",
    "attributes --data nope --lexicon kinetics400 --output a.json": "The file or folder nope does not exist.",
    "attributes --lexicon kinetics400 --output a.json": NEITHER,
    "attributes here.mp4 --data nope --lexicon kinetics400 --output a.json": NEITHER,
    "attributes here.mp4 --lexicon kinetics400 --output a.jsonl": "--output must be a .json file, got a.jsonl.",
    "attributes here.mp4 --lexicon kinetics400 --top-k 0 --output a.json": "--top-k must be at least 1, got 0.",
    "check nope": "nope does not exist.",
    "check here.mp4 --workers -1": "--workers must be at least 0, got -1.",
    "live nope.mp4 --labels a,b": "nope.mp4 does not exist.",
    "live - --labels a,b --threshold 2": "--threshold must be a probability from 0 to 1, got 2.0.",
    "live - --labels a,b --fps 0": "--fps must be above 0, and --min-seconds at least 0.",
    "evaluate mini --data nope": "The file or folder nope does not exist.",
    "evaluate nope --data .": NO_HUB_ID,
    "evaluate mini --data . --probe knn": "--probe and --train belong together: give both or neither.",
    "evaluate mini --data . --folds one": "--folds must be comma-separated numbers such as 1,2,3, got one.",
    "evaluate mini --data . --folds 1,2 --calibrate-fusion": "--calibrate-fusion and --save-fusion go with neither --folds nor --probe.",
    "train finetune --data nope --output trained": "The file or folder nope does not exist.",
    "reproduce bike --seeds 0 --output reproduced": "--seeds must be at least 1, got 0.",
    "convert bike nope.pt --output converted": "nope.pt does not exist.",
    "convert bike here.mp4 --output converted --set bogus": "--set must be KEY=VALUE, such as --set num_frames=16, got bogus.",
    "publish nope org/name": "nope does not exist.",
    "publish . org/name --report nope.json": "nope.json does not exist.",
    "export nope --output exported": NO_HUB_ID,
    "profile mini --measure": "--measure and --data belong together: give both or neither.",
    "profile mini --data .": "--measure and --data belong together: give both or neither.",
    "profile mini --data . --measure --frames 4": "--measure chooses the settings: leave --clip, --frames, --size, --set and --prompts out.",
    "space --model nope": NO_HUB_ID,
    "corpus nope.txt --output a.jsonl": "The file of labels nope.txt does not exist.",
    "corpus hmdb51 --output a.txt": "--output must be a .jsonl or .json file and --review a .csv, got a.txt, a.review.csv.",
    "corpus hmdb51 --output a.json --units a --ask b": "--units and --ask exclude each other. Give one of them.",
    "translate nope.txt --output a.json": "The file of labels nope.txt does not exist.",
    "translate hmdb51 --output a.csv": "--output must be a .json file and --review a .csv, got a.csv, a.review.csv.",
    "translate hmdb51 --output a.json --back": "--back asks the model of --ask. Give --ask.",
    "translate hmdb51 --output a.json --variants 0": "--variants must be at least 1, got 0.",
    "demo --videos 0": "--videos must be at least 1, got 0.",
}  # fmt: skip


def test_wrong_use_is_one_line_and_code_2_before_torch_is_imported_and_changes_nothing(tmp_path):
    (tmp_path / "here.mp4").touch()
    done = run_python("-c", FAILURES.format(commands=list(MISTAKES)), folder=tmp_path)
    assert done.stdout.splitlines() == [f"{command} 2" for command in MISTAKES], done.stderr
    printed = zip(MISTAKES.items(), done.stderr.splitlines(), strict=True)
    assert [(command, line) for (command, said), line in printed if not line.endswith(said)] == []
    assert list(tmp_path.iterdir()) == [tmp_path / "here.mp4"]


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
