import zipfile

import pytest

from mambavision_lab.files import configs_folder, find_damage, link, list_choices, write_atomically


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


@pytest.mark.parametrize("has_links", [True, False])
def test_link_gives_a_second_name_or_a_copy(tmp_path, monkeypatch, has_links):
    def refuse(*_):
        raise OSError("operation not permitted")

    (tmp_path / "source").write_text("new")
    (tmp_path / "target").write_text("old")
    if not has_links:
        monkeypatch.setattr("os.link", refuse)
    link(tmp_path / "source", tmp_path / "target")
    assert (tmp_path / "target").read_text() == "new"
    assert (tmp_path / "source").samefile(tmp_path / "target") == has_links
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_damage_of_an_archive_is_found_wherever_it_is(tmp_path):
    path = tmp_path / "archive"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("weights", bytes(range(64)))
    assert find_damage(path) is None
    content = path.read_bytes()
    header = content.index(b"PK\1\2")  # of the central directory
    for position in (content.index(bytes(range(64))) + 9, 30, header + 16, header + 42):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        assert find_damage(path), position
    path.write_text("no archive")
    assert find_damage(path) is None
