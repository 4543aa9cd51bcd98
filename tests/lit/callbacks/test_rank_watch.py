"""A rank that hangs is named by those that wait for it."""

from types import SimpleNamespace

import pytest

from mambavision_lab.errors import RunError
from mambavision_lab.lit.callbacks.rank_watch import RankWatch

TIMEOUT = RuntimeError("[gloo] Timed out waiting 1000ms for recv operation to complete")


@pytest.fixture
def ranks(tmp_path):
    """Make the trainers of three ranks, which share a run folder."""
    return [
        SimpleNamespace(
            **{"world_size": 3, "global_rank": rank},
            **{"current_epoch": 1, "default_root_dir": tmp_path},
        )
        for rank in range(3)
    ]


@pytest.mark.parametrize(
    ("batches", "stages", "wanted"),
    [
        ((5, 4, 5), (1, 1, 1), "rank 1 hangs, last seen in training, epoch 2, batch 5: "),
        ((5, 5, 5), (1, 1, 0), "rank 2 hangs, last seen in training, epoch 2, batch 6: "),
        (
            (5, 5, 5),
            (1, 1, 1),
            "a rank hangs, all being equally far (training, epoch 2, batch 6): ",
        ),
        ((5, 5, None), (1, 1, 1), "rank 2 has not begun its first batch: "),
    ],
)
def test_rank_that_is_behind_is_named_when_an_operation_times_out(ranks, batches, stages, wanted):
    watches = [RankWatch(60) for _ in ranks]
    for watch, rank, batch, stage in zip(watches, ranks, batches, stages, strict=True):
        if batch is not None:
            watch.on_train_batch_start(rank, None, None, batch)
        if stage:
            watch.on_before_backward(rank, None, None) if batch is not None else None
    with pytest.raises(RunError) as caught:
        watches[0].on_exception(ranks[0], None, TIMEOUT)
    assert str(caught.value).startswith(wanted)
    assert "launcher.timeout_s" in str(caught.value)


def test_other_errors_and_single_processes_are_left_alone(ranks, tmp_path):
    RankWatch(60).on_exception(ranks[0], None, RuntimeError("a bug"))
    alone = SimpleNamespace(**{**vars(ranks[0]), "world_size": 1})
    watch = RankWatch(60)
    watch.on_train_batch_start(alone, None, None, 0)
    watch.on_exception(alone, None, TIMEOUT)
    assert [*tmp_path.iterdir()] == []


def test_rank_that_ends_leaves_no_file(ranks, tmp_path):
    watch = RankWatch(60)
    watch.on_validation_batch_start(ranks[1], None, None, 0, 0)
    assert [*tmp_path.iterdir()]
    watch.teardown(ranks[1], None, "fit")
    assert [*tmp_path.iterdir()] == []
