import pytest

from mambavision_lab.files import configs_folder, list_choices, write_atomically


def test_choices_of_a_group_are_its_yaml_files():
    assert list_choices("sweep") == sorted(p.stem for p in (configs_folder() / "sweep").iterdir())
    assert "nvidia/mambavision_t" in list_choices("model")
    assert list_choices("no_such_group") == []


@pytest.mark.parametrize("content", ["text ü\n", b"\0bytes"])
def test_write_atomically_replaces_the_file_and_leaves_no_other(tmp_path, content):
    path = tmp_path / "file"
    path.write_text("before")
    write_atomically(path, content)
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomically_keeps_the_old_file_where_it_fails(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("before")

    def refuse(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(OSError, match="no space"):
        write_atomically(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
