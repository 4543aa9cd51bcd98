"""Runs in processes that torchrun or srun has started: one config, one folder, rank 0 leads."""

import json
import os
import signal
import socket
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from launch_variables import SRUN, TORCHRUN

from mambavision_lab.launch.command_line import Command
from mambavision_lab.launch.distributed.environment import find_launch
from mambavision_lab.launch.distributed.external import ExternalRun
from mambavision_lab.launch.distributed.run import run_together

APP = str(Path(__file__).parents[1] / "toy_app.py")
ON_CPU = ["trainer=ddp", "trainer.accelerator=cpu"]
LITERAL = "trainer.default_root_dir=${paths.output_dir}/x"
ONE_TASK = {
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "1",
    "SLURM_STEP_NUM_NODES": "1",
}
ONE_WORKER = TORCHRUN | {
    "RANK": "0",
    "WORLD_SIZE": "1",
    "LOCAL_RANK": "0",
    "LOCAL_WORLD_SIZE": "1",
}


def test_sweep_under_torchrun_is_refused_in_one_line(command, launcher_variables, capsys):
    launcher_variables(TORCHRUN | {"RANK": "0"})
    assert command(lambda cfg: None, "-m", "seed=1,2") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: -m under torchrun: each process would run the sweep; start")
    launcher_variables({"RANK": "1"})
    assert command(lambda cfg: None, "-m", "seed=1,2") == 2
    assert capsys.readouterr().err == ""


def test_sweep_in_a_single_srun_task_runs(command, launcher_variables):
    launcher_variables(SRUN | ONE_TASK)
    seeds = []
    assert command(lambda cfg: seeds.append(cfg.seed), "-m", "seed=1,2") == 0
    assert seeds == [1, 2]


def test_taken_port_is_refused_in_one_line(command, launcher_variables, capsys):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        address = {"SLURM_PROCID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        launcher_variables(SRUN | address)
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
        (
            ["launcher.max_restarts=1"],
            "launcher.max_restarts=1: torchrun has started the processes",
        ),
        (["launcher.max_restarts=1"], "use torchrun --max-restarts=N"),
        (["trainer.accelerator=gpu"], "no GPU can be used here"),
        (["trainer.sync_batchnorm=true"], "BatchNorm on CUDA GPUs only"),
    ],
)
def test_trainer_that_does_not_fit_the_processes_is_refused(
    compose, refusal, launcher_variables, overrides, message
):
    import torch

    if "gpu" in overrides[0] and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    launcher_variables(TORCHRUN)
    launch = replace(find_launch(), rank=0, local_rank=0)
    run = ExternalRun(Command("train"), launch, torch.distributed.HashStore())
    cfg = compose("train", *ON_CPU, *overrides)
    assert message in refusal(lambda: run.run_task(lambda cfg: None, cfg, lambda: None))


def records_of(logs: Path) -> dict[str, dict]:
    (folder,) = {path.parent for path in logs.rglob("rank*.json")}
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("rank*.json")}


@pytest.mark.slow
def test_torchrun_starts_lost_processes_again_in_the_run_folder(start, tmp_path):
    run = start(
        *"-m torch.distributed.run --standalone --nproc-per-node=2 --max-restarts=1".split(),
        *[APP, *ON_CPU, "name=lost"],
    )
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 0, out
    records = records_of(tmp_path)
    assert records.keys() == {"rank0-0", "rank1-0", "rank0-1", "rank1-1"}
    assert records["rank0-0"]["config"] == records["rank1-0"]["config"]
    assert records["rank0-0"]["config"]["trainer"]["devices"] == 2
    folder = records["rank0-0"]["config"]["paths"]["output_dir"]
    for rank in (0, 1):
        again = records[f"rank{rank}-1"]["config"]
        assert again["ckpt_path"] == f"{folder}/checkpoints/last.ckpt"
        assert again["paths"]["output_dir"] == folder
    assert out.count(f"restarted by torchrun: resuming from {folder}/checkpoints/last.ckpt") == 1
    assert all(record["argv"][1:4] == [*ON_CPU, "name=lost"] for record in records.values())


@pytest.mark.slow
def test_srun_processes_share_one_config_and_folder(start_srun, tmp_path):
    for run in start_srun(2, APP, *ON_CPU, "name=fine", "seed=null", LITERAL):
        out, _ = run.communicate(timeout=300)
        assert run.returncode == 0, out
    records = records_of(tmp_path)
    assert records.keys() == {"rank0-0", "rank1-0"}
    assert records["rank0-0"]["config"] == records["rank1-0"]["config"]
    assert records["rank0-0"]["argv"] == records["rank1-0"]["argv"]
    assert LITERAL in records["rank1-0"]["argv"]  # as it was typed


@pytest.mark.slow
def test_srun_processes_that_slurm_requeues_continue_in_the_run_folder(start_srun, tmp_path):
    runs = start_srun(2, APP, *ON_CPU, "name=lost")
    assert runs[1].wait(timeout=300) == -signal.SIGKILL
    runs[0].terminate()  # as srun does with the other tasks
    assert runs[0].wait(timeout=60) == 143
    output = ""
    for run in start_srun(2, APP, *ON_CPU, "name=lost", SLURM_RESTART_COUNT="1"):
        output += run.communicate(timeout=300)[0]
        assert run.returncode == 0, output
    records = records_of(tmp_path)
    assert records.keys() == {"rank0-0", "rank1-0", "rank0-1", "rank1-1"}
    folder = records["rank0-0"]["config"]["paths"]["output_dir"]
    last = f"{folder}/checkpoints/last.ckpt"
    assert [records[f"rank{rank}-1"]["ckpt_path"] for rank in (0, 1)] == [last, last]
    assert output.count(f"restarted by srun: resuming from {last}") == 1


def test_restart_before_there_is_a_run_folder_does_not_resume_an_earlier_run(
    command, launcher_variables
):
    seen = []

    def task(cfg):
        if len(seen) == 1:
            seen.append("lost")
            raise ZeroDivisionError
        return run_together(lambda cfg: seen.append(cfg.paths.output_dir), cfg, lambda: None)

    for restart_count, status in (("0", 0), ("0", 1), ("1", 0)):  # two runs of one command
        launcher_variables(ONE_WORKER | {"TORCHELASTIC_RESTART_COUNT": restart_count})
        assert command(task, "trainer=cpu", "name=again") == status
    assert seen[2] != seen[0]


@pytest.mark.parametrize("variables", [SRUN | ONE_TASK, ONE_WORKER], ids=["srun", "torchrun"])
def test_single_process_resumes_after_a_restart(command, launcher_variables, variables):
    launcher_variables(variables)
    seen = []

    def task(cfg):
        return run_together(
            lambda cfg: seen.append((cfg.paths.output_dir, cfg.ckpt_path)), cfg, prepare
        )

    def prepare():
        raise AssertionError("one process prepares its data itself")

    def restart(number: int, name: str) -> tuple[Path, str | None]:
        launcher_variables(
            {f"{who}_RESTART_COUNT": str(number) for who in ("SLURM", "TORCHELASTIC")}
        )
        assert command(task, "trainer=cpu", f"name={name}") == 0
        return Path(seen[-1][0]), seen[-1][1]

    folder, checkpoint = restart(0, "first")
    assert checkpoint is None
    assert restart(1, "first") == (folder, None)  # it was lost before its first checkpoint
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    zipfile.ZipFile(checkpoints / "last.ckpt", "w").close()
    assert restart(2, "first") == (folder, f"{checkpoints}/last.ckpt")
    zipfile.ZipFile(folder / "hpc_ckpt_1.ckpt", "w").close()  # Lightning's, before a requeue
    assert restart(3, "first") == (folder, f"{checkpoints}/requeue.ckpt")
    assert not (folder / "hpc_ckpt_1.ckpt").exists()
    os.utime(checkpoints / "last.ckpt", (2**33, 2**33))  # an epoch later
    assert restart(4, "first") == (folder, f"{checkpoints}/last.ckpt")
    assert restart(0, "first")[0] != folder  # the same command, given anew
    other, checkpoint = restart(1, "other")
    assert other != folder
    assert checkpoint is None


@pytest.mark.slow
def test_torchrun_trains_as_our_own_launcher_does(start, tmp_path):
    small = (
        "trainer.max_epochs=2 scheduler.warmup_epochs=0.5 data.num_train=96 data.num_val=33 "
        "data.num_test=35 model.stem_dim=8 model.embed_dim=32 model.depth=2 model.num_heads=2 "
        "+callbacks.probe._target_=rank_probe.RankProbe +callbacks.probe.folder=${paths.output_dir}"
    ).split()
    torchrun = "-m torch.distributed.run --standalone --nproc-per-node=2".split()
    for name, launcher, devices in (
        ("torchrun", torchrun, []),
        ("own", [], ["trainer.devices=2"]),
    ):
        run = start(*launcher, "train.py", *small, *ON_CPU, *devices, f"name={name}")
        out, _ = run.communicate(timeout=300)
        assert run.returncode == 0, out
    (torchrun_run,), (own_run,) = (
        list((tmp_path / "logs" / "train" / name).iterdir()) for name in ("torchrun", "own")
    )
    found, wanted = (
        {k: v for k, v in json.loads((f / "metrics.json").read_text()).items() if "_per_s" not in k}
        for f in (torchrun_run, own_run)
    )
    assert found == wanted
    assert len(list(torchrun_run.glob("*.log"))) == 1
    first, second = (json.loads((torchrun_run / f"rank{r}.json").read_text()) for r in (0, 1))
    assert first == second  # initial weights among them
    seeds = {(torchrun_run / f"rank{rank}.seed").read_text() for rank in (0, 1)}
    assert len(seeds) == 2  # augmentation differs
