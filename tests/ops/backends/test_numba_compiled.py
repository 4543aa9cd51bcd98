"""The files of the numba kernels' machine code, and what happens where none can be written."""

import logging
from pathlib import Path

import pytest
from scan_cases import assert_same, expect, make_args, run

pytest.importorskip("numba")
from mambavision_lab.ops.selective_scan.backends.numba import compiled


@pytest.fixture
def use_folder(monkeypatch):
    """Store kernels in a folder from now on, and forget those that this process has loaded."""

    def use(folder):
        monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder))
        compiled._kernels.clear()

    yield use
    compiled._kernels.clear()


def assert_scan_works():
    args = make_args(40, batch=3, dim=20)
    assert_same(run("numba", args), expect(args))


def test_kernels_are_compiled_once_and_then_read(use_folder, tmp_path, monkeypatch):
    use_folder(tmp_path / "new" / "folder")
    assert not compiled.is_compiled()
    assert_scan_works()
    assert compiled.is_compiled()
    names = sorted(path.name.split(".", 1)[1] for path in (tmp_path / "new" / "folder").iterdir())
    assert names == ["backward.o", "forward.o"]  # and nothing half-written

    def refuse(*_):
        raise AssertionError("compiled a second time")

    monkeypatch.setattr(compiled, "_compile", refuse)
    use_folder(tmp_path / "new" / "folder")
    assert_scan_works()


def test_scan_works_where_kernels_cannot_be_stored(use_folder, tmp_path, caplog):
    (tmp_path / "file").write_text("")
    use_folder(tmp_path / "file" / "folder")
    with caplog.at_level(logging.INFO, logger=compiled.__name__):
        assert_scan_works()
    (message,) = set(caplog.messages)
    assert message.startswith("compiled kernels cannot be stored, so each process compiles: ")
    assert not compiled.is_compiled()


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "given/mambavision_lab"),
        ("linux", None, "home/.cache/mambavision_lab"),
        ("darwin", None, "home/Library/Caches/mambavision_lab"),
        ("win32", "LOCALAPPDATA", "given/mambavision_lab"),
        ("win32", None, "home/AppData/Local/mambavision_lab"),
    ],
)
def test_kernels_are_stored_where_the_user_can_write(
    platform, variable, expected, monkeypatch, tmp_path
):
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "given"))
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr("sys.platform", platform)
    assert compiled.cache_folder() == tmp_path / expected


def test_kernels_that_changed_are_not_read_from_old_files(tmp_path, monkeypatch):
    key, _ = compiled._key_and_machine()
    changed = tmp_path / "kernels.py"
    changed.write_text("# other kernels\n")
    monkeypatch.setattr(compiled, "_SOURCES", [*compiled._SOURCES[:2], changed])
    assert compiled._key_and_machine()[0] != key
