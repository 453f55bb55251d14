import sys

import pytest

from kinoclip.lazy import lazy_names, when_imported


def test_an_action_waits_for_the_import_of_its_module_and_is_called_once(tmp_path, monkeypatch):
    (tmp_path / "late_module.py").write_text("value = 3")
    monkeypatch.syspath_prepend(tmp_path)
    values = []
    when_imported("late_module", lambda module: values.append(module.value))
    assert values == []
    import late_module

    when_imported("late_module", lambda module: values.append(module.value + 1))  # is imported
    assert values == [3, 4]
    monkeypatch.delitem(sys.modules, "late_module")
    import late_module  # noqa: F811

    assert (values, late_module.value) == ([3, 4], 3)


def test_a_lazy_name_is_imported_on_first_use(tmp_path, monkeypatch):
    (tmp_path / "lazy_package").mkdir()
    (tmp_path / "lazy_package" / "inner.py").write_text("value = 3")
    (tmp_path / "lazy_package" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    import lazy_package

    get, list_names = lazy_names("lazy_package", {"value": "inner"})
    assert "lazy_package.inner" not in sys.modules
    assert (get("value"), lazy_package.value) == (3, 3)
    assert [name for name in list_names() if not name.startswith("__")] == ["value"]
    with pytest.raises(AttributeError, match="module 'lazy_package' has no attribute 'other'"):
        get("other")
