import random
import zipfile

import pytest

from mambavision_lab.files import (
    configs_folder,
    list_choices,
    verify_archive,
    write_atomically,
)


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


def test_archive_is_verified_by_its_checksums(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a/data.pkl", "a/data/0"):
            archive.writestr(name, random.Random(0).randbytes(1000))
    verify_archive(path)
    content = path.read_bytes()
    for at in (content.index(b"a/data/0") + 8, content.index(b"a/data/0") + 1007):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(ValueError, match="record a/data/0 does not have the checksum"):
            verify_archive(path)


def test_archive_with_any_flipped_bit_is_refused_by_one_kind_of_error(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/0", bytes(8))
    content, num_refused = path.read_bytes(), 0
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            verify_archive(path)
        except ValueError:
            num_refused += 1
    assert num_refused > 30  # the others change dates and the like, or leave no zip archive


def test_file_that_is_no_archive_passes_verification(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"no archive")
    verify_archive(path)
