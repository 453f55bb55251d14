import ast

import pytest

from kinoclip.modeling.shim import write_shim


def read_imports(path):
    statement = next(node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom))
    return statement.module, [alias.name for alias in statement.names]


def test_the_shim_imports_its_names_from_this_package_and_a_second_writer_keeps_them(tmp_path):
    path = write_shim(tmp_path, {"BikeModel", "BikeConfig"})
    assert path == tmp_path / "kinoclip_shim.py"
    assert read_imports(path) == ("kinoclip", ["BikeConfig", "BikeModel"])
    assert read_imports(write_shim(tmp_path, {"AltModel"})) == ("kinoclip", ["AltModel", "BikeConfig", "BikeModel"])


@pytest.mark.parametrize("line", ["from kinoclip import BikeModel; import os", "from kinoclip import (", "nonsense"])
def test_only_names_are_kept_of_an_existing_file(tmp_path, line):
    (tmp_path / "kinoclip_shim.py").write_text(line)
    path = write_shim(tmp_path, {"BikeConfig"})
    assert read_imports(path) == ("kinoclip", ["BikeConfig"])
    assert "import os" not in path.read_text()
