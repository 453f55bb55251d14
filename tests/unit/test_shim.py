import ast

import pytest

from kinoclip.shim import auto_map, write_shim


def _imported(path):
    statement = next(node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom))
    return statement.module, [alias.name for alias in statement.names]


def test_the_shim_imports_the_asked_names_from_this_package(tmp_path):
    path = write_shim(tmp_path, {"BikeModel", "BikeConfig"})
    assert path == tmp_path / "kinoclip_shim.py"
    assert _imported(path) == ("kinoclip", ["BikeConfig", "BikeModel"])


def test_a_second_writer_keeps_the_names_of_the_first(tmp_path):
    write_shim(tmp_path, {"BikeModel"})
    assert _imported(write_shim(tmp_path, {"BikeProcessor"})) == ("kinoclip", ["BikeModel", "BikeProcessor"])


@pytest.mark.parametrize("line", ["from kinoclip import BikeModel; import os", "from kinoclip import (", "nonsense"])
def test_nothing_but_names_is_taken_over_from_a_file_that_is_there(tmp_path, line):
    (tmp_path / "kinoclip_shim.py").write_text(line)
    path = write_shim(tmp_path, {"BikeConfig"})
    assert _imported(path) == ("kinoclip", ["BikeConfig"])
    assert "import os" not in path.read_text()


def test_the_map_points_every_auto_class_into_the_shim():
    assert auto_map(AutoModel="BikeModel") == {"AutoModel": "kinoclip_shim.BikeModel"}
