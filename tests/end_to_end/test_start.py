"""How the package starts: help at once, and everything that is promised after an import."""

import subprocess
import sys

import pytest

LOADED = "import sys; print(*(name for name in ('torch', 'transformers', 'av', 'PIL') if name in sys.modules))"


def run_python(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("asked", ["--help", "--version", "classify --help", "train --help"])
def test_help_waits_for_no_library(asked):
    code = f"""
import sys
sys.argv[0] = "/usr/bin/kinoclip"
from kinoclip.cli import main
try:
    main({asked.split()!r})
except SystemExit as end:
    assert not end.code
{LOADED}
"""
    assert run_python(code).splitlines()[-1] == ""


def test_in_a_command_the_names_of_the_package_come_when_they_are_asked_for():
    code = f"""
import sys
sys.argv[0] = "/usr/bin/kinoclip"
import kinoclip
{LOADED}
print(kinoclip.BikeModel.__name__, hasattr(kinoclip, "nothing"))
"""
    assert run_python(code).splitlines() == ["", "BikeModel False"]


def test_an_import_makes_the_methods_known_whatever_the_order():
    code = """
import kinoclip
from transformers import AutoConfig
print(type(AutoConfig.for_model("kinoclip_bike")).__name__, set(kinoclip.__all__) <= set(dir(kinoclip)))
"""
    assert run_python(code).split() == ["BikeConfig", "True"]


def test_python_m_is_the_same_command():
    done = subprocess.run([sys.executable, "-m", "kinoclip", "recipes", "nothing"], capture_output=True, text=True)

    assert done.returncode == 2
    assert "nothing" in done.stderr
    assert "Traceback" not in done.stderr
