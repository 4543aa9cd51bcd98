"""Processes that torchrun or srun has started: one config, one folder, rank 0 leads."""

import json
import os
import socket
from pathlib import Path

import pytest

from mambavision_lab.launch.distributed.environment import (
    Place,
    find_place,
    first_node,
    torchrun_environment,
)
from mambavision_lab.launch.distributed.external import Joined

APP = str(Path(__file__).parents[1] / "toy_app.py")
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "x",
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
}
SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_JOB_ID": "20007",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
}
ON_CPU = ["trainer=ddp", "trainer.accelerator=cpu"]


@pytest.fixture
def environment():
    """Set variables; those of launchers are unset before, and all is as it was after the test."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_")):
            del os.environ[name]
    yield os.environ.update
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({}, None),
        (TORCHRUN, Place("torchrun", 1, 4, 1, 2)),
        (TORCHRUN | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, None),
        (SRUN, Place("srun", 3, 4, 1, 2)),
        (SRUN | {"SLURM_JOB_NAME": "bash"}, None),
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}, None),  # a batch script
    ],
    ids=["alone", "torchrun", "torchrun of one", "srun", "srun of a shell", "sbatch"],
)
def test_place_is_read_from_the_environment(environment, values, place):
    environment(values)
    assert find_place() == place


def test_uneven_nodes_are_refused(environment, refusal):
    environment(SRUN | {"SLURM_NTASKS": "5"})
    assert "give every node the same number" in refusal(find_place)


def test_srun_is_given_what_torchrun_would_have_said(environment):
    environment(SRUN)
    values = torchrun_environment(find_place())
    assert values["MASTER_ADDR"] == "gpu07"
    assert values["MASTER_PORT"] == "15007"
    assert (values["RANK"], values["GROUP_RANK"], values["LOCAL_RANK"]) == ("3", "1", "1")


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu1", "gpu1"), ("gpu[07-09,12],login", "gpu07"), ("a[3,5]", "a3"), ("a,b", "a")],
)
def test_first_node_of_a_list(nodes, first):
    assert first_node(nodes) == first


def test_sweep_under_torchrun_is_refused_in_one_line(command, environment, capsys):
    environment(TORCHRUN | {"RANK": "0"})
    assert command(lambda cfg: None, "-m", "seed=1,2") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: -m under torchrun: each process would run the sweep; start")
    environment({"RANK": "1"})
    assert command(lambda cfg: None, "-m", "seed=1,2") == 2
    assert capsys.readouterr().err == ""


def test_port_that_is_taken_is_said_in_one_line(command, environment, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        environment(SRUN | {"SLURM_PROCID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port})
        assert command(lambda cfg: None, *ON_CPU) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error")]
    assert line == (
        f"error: MASTER_PORT={port}: the port is taken on 127.0.0.1; choose another with MASTER_PORT=..."
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer.devices=3"], "trainer.devices=3, but torchrun has started 2 processes"),
        (["trainer.num_nodes=3"], "on 2; give trainer.num_nodes=2"),
        (["trainer.max_restarts=1"], "use torchrun --max-restarts=N"),
        (["trainer.accelerator=gpu"], "no GPU can be used here"),
    ],
)
def test_trainer_that_does_not_fit_the_processes_is_refused(compose, refusal, overrides, message):
    import torch

    if "gpu" in overrides[0] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    joined = Joined(Place("torchrun", 0, 4, 0, 2), torch.distributed.HashStore())
    cfg = compose("train", *ON_CPU, *overrides)
    assert message in refusal(lambda: joined.run(lambda cfg: None, cfg, lambda: None))


def facts_of(logs: Path) -> dict[str, dict]:
    (folder,) = {path.parent for path in logs.rglob("rank*.json")}
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("rank*.json")}


def test_torchrun_starts_lost_processes_again_in_the_run_folder(start, tmp_path):
    run = start(
        *"-m torch.distributed.run --standalone --nproc-per-node=2 --max-restarts=1".split(),
        *[APP, *ON_CPU, "name=lost"],
    )
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out
    facts = facts_of(tmp_path)
    assert facts.keys() == {"rank0-0", "rank1-0", "rank0-1", "rank1-1"}
    assert facts["rank0-0"]["config"] == facts["rank1-0"]["config"]
    assert facts["rank0-0"]["config"]["trainer"]["devices"] == 2
    folder = facts["rank0-0"]["config"]["paths"]["output_dir"]
    for rank in (0, 1):
        again = facts[f"rank{rank}-1"]["config"]
        assert again["ckpt_path"] == f"{folder}/checkpoints/last.ckpt"
        assert again["paths"]["output_dir"] == folder
    assert out.count("started again by torchrun") == 1


def test_srun_processes_share_one_config_and_folder(start, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]  # free again below
    slurm = {
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_STEP_ID": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    runs = []
    for rank in ("0", "1"):
        for name, value in (slurm | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}).items():
            monkeypatch.setenv(name, value)
        runs.append(start(APP, *ON_CPU, "name=fine", "seed=null"))
    for run in runs:
        out, _ = run.communicate(timeout=300)
        assert run.returncode == 0, out
    facts = facts_of(tmp_path)
    assert facts.keys() == {"rank0-0", "rank1-0"}
    assert facts["rank0-0"]["config"] == facts["rank1-0"]["config"]


@pytest.mark.slow
def test_torchrun_trains_as_the_own_launcher_does(start, tmp_path):
    small = (
        "trainer.max_epochs=2 scheduler.warmup_epochs=0.5 data.num_train=96 data.num_val=33 "
        "data.num_test=35 model.stem_dim=8 model.embed_dim=32 model.depth=2 model.num_heads=2 "
        "+callbacks.probe._target_=rank_probe.RankProbe +callbacks.probe.folder=${paths.output_dir}"
    ).split()
    outer = "-m torch.distributed.run --standalone --nproc-per-node=2".split()
    for name, launcher, devices in (("outer", outer, []), ("own", [], ["trainer.devices=2"])):
        run = start(*launcher, "train.py", *small, *ON_CPU, *devices, f"name={name}")
        out, _ = run.communicate(timeout=300)
        assert run.returncode == 0, out
    (outer_run,), (own_run,) = (
        list((tmp_path / "logs" / "train" / name).iterdir()) for name in ("outer", "own")
    )
    found, wanted = (
        {k: v for k, v in json.loads((f / "metrics.json").read_text()).items() if "_per_s" not in k}
        for f in (outer_run, own_run)
    )
    assert found == wanted
    assert len(list(outer_run.glob("*.log"))) == 1
    first, second = (json.loads((outer_run / f"rank{r}.json").read_text()) for r in (0, 1))
    assert first == second  # initial weights among them
    seeds = {(outer_run / f"rank{rank}.seed").read_text() for rank in (0, 1)}
    assert len(seeds) == 2  # augmentation differs
