"""Runs in several processes of this machine: their config, their failures, how they are stopped."""

import csv
import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
APP = str(Path(__file__).parents[1] / "toy_app.py")


def records_of(folder: Path) -> dict[str, dict]:
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("rank*.json")}


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def wait_for(condition, process, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
def test_each_job_of_several_processes_fails_in_its_own_way(start, tmp_path):
    names = ["fine", "refused", "raises", "lost"]
    run = start(APP, "-m", *TWO, "launcher.max_restarts=0,1", f"name={','.join(names)}")
    out, _ = run.communicate(timeout=300)
    assert run.returncode == 1, out
    (sweep,) = (tmp_path / "logs" / "sweep").rglob("sweep.csv")
    with sweep.open() as file:
        rows = {tuple(row["overrides"].split()[3:]): row for row in csv.DictReader(file)}
    status = {
        name: [rows[f"launcher.max_restarts={n}", f"name={name}"]["status"] for n in (0, 1)]
        for name in names
    }
    assert status == {
        "fine": ["done"] * 2,
        "refused": ["failed"] * 2,
        "raises": ["failed"] * 2,
        "lost": ["failed", "done"],
    }
    reasons = {name: rows["launcher.max_restarts=1", f"name={name}"]["reason"] for name in names}
    assert reasons == {
        "fine": "",
        "refused": "name=refused: by every process",
        "raises": "ZeroDivisionError: on rank 1 alone",
        "lost": "",
    }
    lost = rows["launcher.max_restarts=0", "name=lost"]
    assert lost["reason"].startswith(
        "rank 1 was killed by SIGKILL; if memory was short, lower data"
    )
    folders = [Path(row["folder"]) for row in rows.values()]
    for folder in folders:  # both ranks have one config, and the same as the folder's name says
        records = records_of(folder)
        assert records["rank0-0"]["config"] == records["rank1-0"]["config"]
        assert records["rank0-0"]["argv"][1:3] == records["rank1-0"]["argv"][1:3] == ["-m", TWO[0]]
        assert records["rank0-0"]["config"]["paths"]["output_dir"] == str(folder)
    assert out.count("name=refused: by every process") == 2  # once a job, not once a rank
    assert out.count("rank 1 failed:") == 3  # once a start
    assert out.count("ZeroDivisionError: on rank 1 alone") == 3
    assert out.count("rank 0 failed:") == 0
    assert out.count("error: rank 1 was killed by SIGKILL") == 1
    restarted = records_of(Path(rows["launcher.max_restarts=1", "name=lost"]["folder"]))
    last = str(Path(restarted["rank0-0"]["config"]["paths"]["output_dir"], "checkpoints/last.ckpt"))
    assert restarted["rank0-0"]["ckpt_path"] is None
    assert [restarted[f"rank{rank}-1"]["ckpt_path"] for rank in (0, 1)] == [last, last]


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGTERM, 143, id="SIGTERM"),
        pytest.param(signal.SIGINT, 130, id="SIGINT", marks=pytest.mark.slow),
    ],
)
def test_signal_stops_all_processes_and_the_sweep(start, tmp_path, number, status):
    run = start(APP, "-m", *TWO, "name=waits", "seed=1,2")
    wait_for(lambda: len(list(tmp_path.rglob("rank*.json"))) == 2, run)
    run.send_signal(number)
    out, _ = run.communicate(timeout=30)
    assert run.returncode == status, out
    assert f"stopped by {signal.Signals(number).name}" in out
    assert "Traceback" not in out
    (folder,) = {path.parent for path in tmp_path.rglob("rank*.json")}  # the second never started
    pids = [pid for record in records_of(folder).values() for pid in record["pids"]]
    assert not [pid for pid in pids if is_alive(pid)]
    assert json.loads((folder / "job.json").read_text())["status"] == "interrupted"


SMALL = (
    "trainer.max_epochs=6 scheduler.warmup_epochs=0.5 data.num_train=320 data.num_val=33 "
    "data.num_test=35 data.batch_size=16 model.stem_dim=8 model.embed_dim=32 model.depth=2 "
    "model.num_heads=2"
).split()


@pytest.mark.slow
def test_ten_runs_of_which_a_process_is_killed_all_finish(start, tmp_path):
    draw = random.Random(0)
    finished, steps = 0, []
    for number in range(10):
        step, rank = draw.randrange(60), draw.randrange(2)
        probe = [
            "+callbacks.kill._target_=rank_probe.KillOnce",
            f"+callbacks.kill.step={step}",
            f"+callbacks.kill.rank={rank}",
            "+callbacks.kill.folder=${paths.output_dir}",
        ]
        name = f"name=killed{number}"
        run = start("train.py", *SMALL, *TWO, *probe, name, "launcher.max_restarts=2")
        out, _ = run.communicate(timeout=300)
        (folder,) = (tmp_path / "logs" / "train" / f"killed{number}").iterdir()
        assert (folder / "killed").is_file(), out
        finished += run.returncode == 0 and (folder / "metrics.json").is_file()
        steps.append((rank, step, run.returncode))
        (line,) = [x for x in out.splitlines() if x.startswith("a process was lost")]
        assert line.startswith("a process was lost: restart 1 of 2, from ")
        assert ("last.ckpt" in line) == (step >= 10), line  # ten steps an epoch
        with (folder / "metrics.csv").open() as file:
            epochs = [row["epoch"] for row in csv.DictReader(file) if row["train/images_per_s"]]
        assert epochs == [str(epoch) for epoch in range(6)]  # each once
    print("rank, step and status of each run:", steps)
    assert finished == 10
