import pytest
from composing import check

from mambavision_lab.config.step_checks import accumulated_batches, check_step


def config(**values):
    """Plain values of a training's config; keys are like data__batch_size."""
    cfg = {
        "data": {"batch_size": 32, "image_size": 32},
        "trainer": {"devices": 1, "num_nodes": 1},
        "classifier": {},
        "multi_scale": {},
    }
    for key, value in values.items():
        node, name = key.split("__")
        cfg[node][name] = value
    return cfg


@pytest.mark.parametrize(
    ("wanted", "given", "num_processes", "found"),
    [(None, 3, 2, 3), (64, 1, 2, 4), (64, 4, 2, 4), (16, 1, 2, 1), (8, 1, 1, 1)],
)
def test_step_accumulates_what_the_global_batch_size_leaves(wanted, given, num_processes, found):
    data = {"batch_size": 8, "global_batch_size": wanted}
    assert accumulated_batches(data, given, num_processes) == found


@pytest.mark.parametrize(
    ("values", "named"),
    [
        (
            {"data__global_batch_size": 33},
            "data.global_batch_size=33: is no multiple of data.batch_size=32; give data.global_batch_size=32",
        ),
        ({"data__global_batch_size": 0}, "give data.global_batch_size=32"),
        ({"data__global_batch_size": -64}, "give data.global_batch_size=32"),
        (
            {"data__global_batch_size": 96, "trainer__devices": 2},
            "data.batch_size=32 x 2 processes = 64; give data.global_batch_size=128",
        ),
        ({"data__global_batch_size": 96, "trainer__devices": [0, 1]}, "x 2 processes = 64"),
        ({"data__global_batch_size": 96, "trainer__num_nodes": 2}, "x 2 processes = 64"),
        (
            {"data__global_batch_size": 64, "trainer__accumulate_grad_batches": 3},
            "trainer.accumulate_grad_batches=3: data.global_batch_size=64 of data.batch_size=32 "
            "accumulates 2; leave it at 1",
        ),
        (
            {"multi_scale__sizes": [16, 48, 40]},
            "multi_scale.sizes=[16, 48, 40]: images are read with data.image_size=32 pixels and would be "
            "enlarged; give data.image_size=48",
        ),
        (
            {"multi_scale__scale_batch": True, "data__global_batch_size": 64},
            "multi_scale.scale_batch=true: the images per step follow their size, and "
            "data.global_batch_size=64 fixes them",
        ),
        ({"classifier__lr_batch_size": 0}, "lr_batch_size=0: wanted 1 or more images"),
        ({"classifier__lr_batch_size": 64}, "changes nothing without classifier.scale_lr"),
    ],
)
def test_impossible_step_is_refused(values, named, refusal):
    assert named in refusal(lambda: check_step(config(**values)))


@pytest.mark.parametrize("devices", ["auto", "2", -1])
def test_number_of_processes_that_only_the_launch_knows_is_left_to_it(devices):
    check_step(config(data__global_batch_size=96, trainer__devices=devices))


def test_global_batch_size_is_checked_before_anything_starts(refusal):
    assert "give data.global_batch_size=32" in refusal(
        lambda: check("train", "data.global_batch_size=33")
    )
