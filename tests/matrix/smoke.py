"""Check, in an empty folder, what an installation without extras does: python smoke.py."""

# ruff: noqa: T201
import importlib.util
import re
import shlex
import subprocess
import sys

EXTRAS = ("accelerate", "datasets", "evaluate", "gradio", "nltk", "onnx", "peft")
# arguments of kinoclip, the exit code, and a pattern in what is printed
COMMANDS = [
    ("demo --videos 2", 0, "2 of 2 right"),
    ("classify demo/clip_0.mp4 --model mini --labels 'red circle,blue square' --output labels.jsonl", 0, ""),
    ("convert bike mini --labels 'red circle,blue square' --output shapes", 0, "stored 2 labels"),
    ("evaluate --help", 0, "--protocol"),
    ("export shapes --output exported", 1, r"pip install 'kinoclip\[export\]'"),
    ("train finetune --data demo --output trained", 1, r"pip install 'kinoclip\[train\]'"),
    ("evaluate shapes --data demo", 1, r"pip install 'kinoclip\[train\]'"),
    ("space", 2, r"pip install 'kinoclip\[demo\]'"),
]


def main() -> int:
    """Run the commands, and return 1 if one does something else."""
    wrong = [f"{name} is installed, which is of an extra" for name in EXTRAS if importlib.util.find_spec(name)]
    for arguments, code, pattern in COMMANDS:
        command = [sys.executable, "-m", "kinoclip", *shlex.split(arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode != code or not re.search(pattern, done.stdout):
            wrong.append(
                f"kinoclip {arguments}: expected {code} and {pattern!r}, got {done.returncode} and {done.stdout}"
            )
    print(*(wrong or [f"{len(COMMANDS)} commands without extras: passed"]), sep="\n")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
