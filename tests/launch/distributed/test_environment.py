"""The launcher and the rank that are read from the environment."""

import os

import pytest
from launch_variables import SRUN, TORCHRUN
from lightning.fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment

from mambavision_lab.launch.distributed.environment import ExternalLaunch, find_launch

SRUN_LAUNCH = ExternalLaunch(
    launcher="srun",
    run_id="slurm-20007-0",
    num_restarts=0,
    rank=3,
    world_size=4,
    local_rank=1,
    local_world_size=2,
    node_rank=1,
    main_address="gpu07",
    main_port=15007,
)
TORCHRUN_LAUNCH = ExternalLaunch("torchrun", "x", 2, 1, 4, 1, 2, 0, "host", 29400)


@pytest.mark.parametrize(
    ("values", "launch"),
    [
        ({}, None),
        (TORCHRUN, TORCHRUN_LAUNCH),
        (SRUN, SRUN_LAUNCH),
        (SRUN | TORCHRUN, TORCHRUN_LAUNCH),  # srun has started torchrun
        (SRUN | {"SLURM_JOB_NAME": "bash"}, None),
        (SRUN | {"SLURM_JOB_NAME": "interactive"}, None),
        ({"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}, None),
    ],
    ids=["alone", "torchrun", "srun", "torchrun in srun", "bash", "interactive", "sbatch"],
)
def test_launch_is_read_from_the_environment(launcher_variables, values, launch):
    launcher_variables(values)
    assert find_launch() == launch


def test_num_nodes_follows_from_the_processes(launcher_variables):
    launcher_variables(SRUN)
    assert find_launch().num_nodes == 2


def test_uneven_nodes_are_refused(launcher_variables, refusal):
    for tasks, nodes in ("5", "2"), ("6", "4"):
        launcher_variables(SRUN | {"SLURM_NTASKS": tasks, "SLURM_STEP_NUM_NODES": nodes})
        assert "give every node the same number" in refusal(find_launch)
    launcher_variables(TORCHRUN | {"WORLD_SIZE": "5"})
    assert "give every node the same number" in refusal(find_launch)


@pytest.mark.parametrize("tasks", ["1", "4"])
def test_lightning_detects_slurm_and_its_requeue_under_srun(launcher_variables, tasks):
    launcher_variables(SRUN | {"SLURM_NTASKS": tasks, "SLURM_STEP_NUM_NODES": "1"})
    find_launch()
    assert not TorchElasticEnvironment.detect()
    assert SLURMEnvironment.detect()
    environment = SLURMEnvironment()  # refuses tasks without SLURM_NTASKS_PER_NODE
    assert environment.auto_requeue
    environment.validate_settings(num_devices=int(tasks), num_nodes=1)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("gpu1", "gpu1"), ("gpu[07-09,12],login", "gpu07"), ("a[3,5]", "a3"), ("a,b", "a")],
)
def test_main_address_is_the_first_node_of_the_step(launcher_variables, nodes, first):
    launcher_variables(SRUN | {"SLURM_STEP_NODELIST": nodes})
    assert find_launch().main_address == os.environ["MASTER_ADDR"] == first


def test_steps_of_a_job_have_ports_of_their_own(launcher_variables):
    launcher_variables(SRUN | {"SLURM_STEP_ID": "2"})
    assert find_launch().main_port == int(os.environ["MASTER_PORT"]) == 15009


def test_address_and_port_of_the_user_come_first(launcher_variables):
    launcher_variables(SRUN | {"MASTER_ADDR": "host", "MASTER_PORT": "1234"})
    launch = find_launch()
    assert (launch.main_address, launch.main_port) == ("host", 1234)
