import importlib.metadata
import json
import os
import subprocess
import sys

import pytest

from mambavision_lab.runs.provenance import PACKAGES, collect, git_state, hardware


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Call git in an empty folder that lies in no repository."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    folder = tmp_path / "code"
    folder.mkdir()

    def call(*arguments):
        identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.com"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    return folder, call


def test_provenance_git_state_is_commit_and_dirtiness(git):
    folder, call = git
    assert git_state(folder) is None
    call("init")
    assert git_state(folder) is None  # nothing is committed yet
    (folder / "a.txt").write_text("one")
    call("add", "a.txt")
    call("commit", "-m", "first")
    commit = call("rev-parse", "HEAD")
    assert len(commit) == 40
    assert git_state(folder) == {"commit": commit, "is_dirty": False}
    (folder / "a.txt").write_text("two")
    assert git_state(folder) == {"commit": commit, "is_dirty": True}
    call("commit", "-am", "second")
    (folder / "sub").mkdir()
    assert git_state(folder / "sub") == {"commit": call("rev-parse", "HEAD"), "is_dirty": False}
    (folder / "new.txt").touch()
    assert git_state(folder)["is_dirty"]


def test_provenance_without_git_has_no_state(git, monkeypatch):
    folder, call = git
    call("init")
    monkeypatch.setenv("PATH", str(folder))
    assert git_state(folder) is None


def test_provenance_records_what_ran_where_and_with_what(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = json.loads(json.dumps(collect(seed=0, command=["train.py", "name=two words"])))
    assert found["seed"] == 0
    assert found["command"].endswith(" train.py 'name=two words'")
    assert found["folder"] == str(tmp_path)
    assert found["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found["packages"] == {name: importlib.metadata.version(name) for name in PACKAGES}
    assert found["hardware"]["num_cores"] == os.cpu_count()
    assert found["hardware"]["processor"]
    assert collect(seed=0, command=None)["command"] is None  # started from Python


def test_provenance_of_a_missing_package_is_none(monkeypatch):
    monkeypatch.setattr("mambavision_lab.runs.provenance.PACKAGES", ("torch", "no-such-package"))
    versions = collect(seed=None, command=None)["packages"]
    assert versions == {"torch": importlib.metadata.version("torch"), "no-such-package": None}


def test_provenance_hardware_does_not_load_torch():
    probe = (
        "import sys; from mambavision_lab.runs.provenance import hardware\n"
        "print('gpus' in hardware(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"], done.stderr


def test_provenance_hardware_names_the_gpus_that_torch_sees(monkeypatch):
    class Cuda:
        is_available = staticmethod(lambda: True)
        device_count = staticmethod(lambda: 2)
        get_device_name = staticmethod("card {}".format)

    monkeypatch.setitem(sys.modules, "torch", type("torch", (), {"cuda": Cuda}))
    assert hardware()["gpus"] == ["card 0", "card 1"]
