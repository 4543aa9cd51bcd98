"""train.py from_run=RUN: the same composition again, changes on top, refusals, and warnings."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mambavision_lab.files import configs_folder
from mambavision_lab.launch.check_command import check_jobs
from mambavision_lab.launch.command_line import parse_command
from mambavision_lab.launch.prepared import open_command
from mambavision_lab.runs.folder import open_run_folder
from mambavision_lab.runs.provenance import list_changes
from mambavision_lab.runs.reproduce import show_comparison

ROOT = configs_folder().parent


@pytest.fixture
def task():
    """Open the run folder as a training does; `seen` holds the configs, as plain values."""

    def run(cfg):
        open_run_folder(cfg, is_latest=False)
        run.seen.append(OmegaConf.to_container(cfg, resolve=True))
        run.folders.append(Path(cfg.paths.output_dir))
        return 0.5

    run.seen, run.folders = [], []
    return run


@pytest.fixture
def old_run(command, task):
    """A run with choices and values of its own; returns its folder."""
    given = ["data=digits", "optimizer=sgd", "model.depth=2", "seed=7", "augment=none"]
    assert command(task, *given) == 0
    return task.folders[0]


def test_run_of_a_pruned_network_may_have_been_moved(command, task, old_run, tmp_path):
    (old_run / "pruned").mkdir()
    (old_run / "pruned" / "model.safetensors").touch()
    (old_run / "pruned" / "config.json").write_text("{}")
    given = (f"from_run={old_run}", f"model.pretrained={old_run}/pruned")
    assert command(task, *given) == 0
    second = task.folders[1]
    shutil.copytree(old_run / "pruned", second / "pruned")
    shutil.rmtree(old_run)
    moved = second.rename(tmp_path / "moved")
    assert command(task, f"from_run={moved}") == 0
    assert task.seen[-1]["model"]["pretrained"] == str(moved / "pruned")


def without_paths(cfg):
    text = json.dumps(cfg).replace(cfg["paths"]["output_dir"], "OUT")
    return json.loads(text)


def test_from_run_composes_the_same_config_into_a_fresh_folder(command, task, old_run):
    assert command(task, f"from_run={old_run}") == 0
    first, second = task.seen
    assert without_paths(first) == without_paths(second)
    assert task.folders[0] != task.folders[1]
    assert command(task, f"from_run={task.folders[1]}", "seed=8") == 0  # a copy of a copy
    assert without_paths(task.seen[2]) == without_paths(first) | {"seed": 8}


def test_from_run_takes_groups_values_and_sweeps_on_top(command, task, old_run):
    assert command(task, f"from_run={old_run}", "data=cifar100", "augment=light") == 0
    cfg = task.seen[1]
    assert (cfg["data"]["num_classes"], cfg["model"]["num_classes"]) == (100, 100)
    assert (cfg["model"]["depth"], cfg["optimizer"]["lr"]) == (2, task.seen[0]["optimizer"]["lr"])
    assert cfg["augment"]["_target_"]
    sweep = ["data=snapshot,cifar100", "-m", f"from_run={old_run}"]  # flags stand anywhere
    assert command(task, *sweep) == 0
    assert [cfg["data"]["num_classes"] for cfg in task.seen[2:]] == [10, 100]


def test_commands_read_a_run_in_a_folder_of_any_name(task, old_run, tmp_path):
    run = tmp_path / "it's [a],b=c"
    shutil.copytree(old_run, run)
    (run / "checkpoints").mkdir()
    best = run / "checkpoints" / "best.ckpt"
    best.touch()
    (tmp_path / "latest").symlink_to(run)
    for given in (f"from_run={run}", f"ckpt_path={tmp_path}/latest/checkpoints/best.ckpt"):
        _, cfg = check_jobs(open_command(parse_command("eval", ["eval.py", given, "trainer=cpu"])))
        assert cfg.ckpt_path == str(best)


def test_from_run_takes_a_downloaded_copy_of_the_snapshot(command, task, old_run, tmp_path):
    (old_run / "snapshot").rename(tmp_path / "artifact")
    assert command(task, f"from_run={tmp_path}/artifact") == 0
    assert task.seen[1]["model"] == task.seen[0]["model"]


REFUSED = [
    (["from_run=/no/such"], "from_run=/no/such: no such file or folder"),
    (["from_run=/"], "from_run=/: no run folder around it"),
    (
        ["from_run={}", "--config-name", "train"],
        "composes from the run's snapshot; remove --config-name",
    ),
    (["from_run={}", "trainer.devcies=2"], "did you mean 'devices'?"),
    (["from_run={}", "trainer.max_epochs=abc"], "trainer.max_epochs=abc: wanted int"),
    (["-m", "from_run={}", "trainer.max_epochs=1,abc"], "trainer.max_epochs=abc: wanted int"),
    (["from_run={}", "seed=x"], "seed: "),
]


def test_from_run_refuses_in_one_line(command, task, old_run, capsys):
    for arguments, named in REFUSED:
        capsys.readouterr()
        assert command(task, *(a.format(old_run) for a in arguments)) == 2, arguments
        lines = [s for s in capsys.readouterr().err.splitlines() if not s.startswith("warning: ")]
        assert len(lines) == 1
        assert named in lines[0]
    assert len(task.seen) == 1


def test_checkpoint_and_run_are_not_both_given(old_run, refusal):
    given = ["eval.py", f"from_run={old_run}", "ckpt_path=other.ckpt"]
    message = refusal(lambda: open_command(parse_command("eval", given)))
    assert message.endswith("ckpt_path=other.ckpt: both name a checkpoint; give one of them")


@pytest.mark.parametrize("edit", ["change", "add", "remove"])
def test_from_run_refuses_an_edited_snapshot(command, task, old_run, capsys, edit):
    path = old_run / "snapshot" / "model" / "snapshot.yaml"
    if edit == "change":
        path.write_text(path.read_text().replace("depth: 2", "depth: 4"))
    elif edit == "add":
        path.with_name("more.yaml").write_text("a: 1\n")
    else:
        path.unlink()
    assert command(task, f"from_run={old_run}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has been edited since (model/" in line


def test_differences_are_reported_line_by_line(command, task, old_run, capsys):
    path = old_run / "provenance.json"
    record = json.loads(path.read_text())
    record["git"] = {"commit": "abc", "is_dirty": True}
    record["packages"]["torch"] = "1.0"
    record["hardware"]["num_cores"] = 999
    path.write_text(json.dumps(record))
    found = list_changes(old_run / "snapshot")
    assert {line.partition(":")[0] for line in found} >= {"torch", "num_cores", "commit"}
    assert "uncommitted changes then: the commit alone does not identify the code" in found
    for arguments in ([], ["check=true"]):
        assert command(task, f"from_run={old_run}", *arguments) == 0
        err = capsys.readouterr().err.splitlines()
        assert [f"warning: {line}" for line in found] == err


def test_check_prints_verdict_and_config_and_starts_nothing(command, task, capsys):
    assert command(task, "check=true", "seed=5") == 0
    out = capsys.readouterr().out
    assert out.startswith("check: 1 job checked, nothing wrong, nothing started\n")
    assert OmegaConf.create(out.partition("\n")[2]).seed == 5
    assert command(task, "-m", "check=true", "seed=1,2") == 0
    assert capsys.readouterr().out.splitlines()[1:3] == ["  seed=1", "  seed=2"]
    assert command(task, "check=true", "trainer.devcies=2") == 2
    assert command(task, "check=yes") == 2  # not a run that nobody asked for
    assert capsys.readouterr().err.splitlines()[-1] == "error: check=yes: wanted true or false"
    assert task.seen == []


def test_comparison_tells_equal_metrics_from_others():
    assert show_comparison({"a": 0.1, "x_per_s": 1}, {"a": 0.1, "x_per_s": 2})
    assert not show_comparison({"a": 0.1}, {"a": 0.1 + 1e-12})
    assert not show_comparison({"a": 0.1}, {"a": 0.1, "b": 1.0})
    assert show_comparison({"a": 0.1}, {"a": 0.1, "num_images": 5})  # an older run did not count
    assert not show_comparison({"num_images": 4}, {"num_images": 5})


def test_help_has_every_group_a_line_per_choice_and_five_commands(command, task, capsys):
    assert command(task, "--help") == 0
    out = capsys.readouterr().out
    for group in ("model", "data", "trainer", "sweep", "logger"):
        assert f"\n  {group}=\n" in out
        for path in (configs_folder() / group).rglob("*.yaml"):
            assert f" {path.relative_to(configs_folder() / group).with_suffix('')} " in out
    assert re.search(r"\* mambavision_nano +0\.49 M parameters", out)
    assert re.search(r" nvidia/mambavision_t +31\.79 M parameters", out)
    assert out.partition("Examples:")[2].count("python train.py") == 5


def test_bash_completes_groups_choices_and_keys():
    script = """
    eval "$(python train.py -sc install=bash)"
    complete_line() {
        COMP_LINE="$1"; COMP_POINT=${#COMP_LINE}; words=($COMP_LINE); COMP_CWORD=$((${#words[@]} - 1))
        COMPREPLY=(); hydra_bash_completion; echo "${COMPREPLY[@]}"
    }
    complete_line "python train.py model=mambavision_sm"
    complete_line "python train.py optimizer.l"
    complete_line "python train.py swe"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PATH": path},
    )
    first, second, third = done.stdout.splitlines()[-3:]
    assert first == "model=mambavision_small"
    assert second == "optimizer.lr="
    assert "sweep=" in third
