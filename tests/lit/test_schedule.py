import functools
import math

import pytest
import torch
from lightning.pytorch import Callback
from timm.scheduler import CosineLRScheduler

from mambavision_lab.lit.schedule import (
    constant_with_warmup,
    cosine_with_warmup,
    linear_with_warmup,
    one_cycle,
    warmup_stable_decay,
)


def rates(num_steps, steps_per_epoch, make=cosine_with_warmup, **options):
    """The rate of every step, and the one left after the last, for a peak of 2."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = make(optimizer, num_steps, steps_per_epoch, **options)
    values = []
    for _ in range(num_steps + 1):
        values += schedule.get_last_lr()
        optimizer.step()
        schedule.step()
    return values


def test_cosine_rises_linearly_then_falls_to_its_end():
    values = rates(24, 4, warmup_epochs=1, min_lr_ratio=0.1)
    assert values[:5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
    assert values[14] == pytest.approx((2 + 0.2) / 2)  # half way down
    assert values[9] == pytest.approx(0.2 + 1.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert values[24] == pytest.approx(0.2)
    assert values[4:] == sorted(values[4:], reverse=True)


@pytest.mark.parametrize(("warmup_epochs", "peak_at"), [(0, 0), (0.5, 2), (1.5, 6), (5, 20)])
def test_cosine_peaks_after_its_warmup(warmup_epochs, peak_at):
    values = rates(20, 4, warmup_epochs=warmup_epochs)
    assert values.index(max(values)) == peak_at
    assert values[peak_at] == pytest.approx(2.0)
    assert values[0] == pytest.approx(2.0 / (peak_at + 1))


def test_cosine_stays_at_its_end():
    assert rates(10, 5, warmup_epochs=0, min_lr_ratio=0.25)[10] == pytest.approx(0.5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    factor = cosine_with_warmup(optimizer, 10, 5, min_lr_ratio=0.25).lr_lambdas[0]
    assert factor(11) == factor(1000) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("epochs", "warmup", "cooldown", "start_lr", "min_lr"),
    [(310, 20, 10, 1e-6, 5e-6), (31, 2, 1, 0.0, 0.0), (30, 0, 0, 1e-6, 1e-3), (6, 3, 0, 1.0, 0.5)],
    ids=["as MambaVision was trained", "to zero", "no warm-up", "short"],
)
def test_cosine_has_the_rates_of_timm(epochs, warmup, cooldown, start_lr, min_lr):
    per_epoch = 3
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    theirs = CosineLRScheduler(
        optimizer,
        t_initial=(epochs - warmup - cooldown) * per_epoch,
        warmup_t=warmup * per_epoch,
        warmup_prefix=True,
        warmup_lr_init=start_lr,
        lr_min=min_lr,
        t_in_epochs=False,
    )
    wanted = []
    for step in range(epochs * per_epoch + 1):
        theirs.step_update(step)
        wanted.append(optimizer.param_groups[0]["lr"])
    ours = rates(
        epochs * per_epoch,
        per_epoch,
        warmup_epochs=warmup,
        cooldown_epochs=cooldown,
        start_lr_ratio=start_lr / 2,
        min_lr_ratio=min_lr / 2,
    )
    assert ours == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    assert ours[-1 - cooldown * per_epoch :] == pytest.approx([min_lr] * (cooldown * per_epoch + 1))


@pytest.mark.parametrize(
    ("num_steps", "options", "message"),
    [
        (math.inf, {}, "needs a run with an end; set trainer.max_epochs or trainer.max_steps"),
        (
            10,
            {"warmup_epochs": 3},
            "scheduler.warmup_epochs=3 is 12 steps, but the run has only 10; lower it",
        ),
        (
            10,
            {"warmup_epochs": 1, "cooldown_epochs": 2},
            "scheduler.warmup_epochs=1 and scheduler.cooldown_epochs=2 are 12 steps, but the run has only "
            "10; lower them",
        ),
    ],
)
def test_cosine_refuses_runs_that_it_does_not_fit(num_steps, options, message, refusal):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    assert message in refusal(lambda: cosine_with_warmup(optimizer, num_steps, 4, **options))


@pytest.mark.parametrize(
    ("make", "options", "expected"),
    [
        (
            linear_with_warmup,
            {"warmup_epochs": 1, "cooldown_epochs": 1, "min_lr_ratio": 0.2},
            [2 / 3, 4 / 3, 2, 1.6, 1.2, 0.8, 0.4, 0.4, 0.4],
        ),
        (linear_with_warmup, {"warmup_epochs": 0}, [2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0]),
        (
            warmup_stable_decay,
            {"warmup_epochs": 1.5, "decay_share": 0.5},
            [0.5, 1, 1.5, 2, 2, 1.5, 1, 0.5, 0],
        ),
        (constant_with_warmup, {}, [2] * 9),
        (constant_with_warmup, {"warmup_epochs": 1.5}, [0.5, 1, 1.5, 2, 2, 2, 2, 2, 2]),
        (
            one_cycle,
            {"warmup_share": 0.25, "start_lr_ratio": 0.5, "min_lr_ratio": 0.1},
            [1, 1.5, 2, 1.7, 1.4, 1.1, 0.8, 0.5, 0.2],
        ),
    ],
)
def test_straight_schedules_have_the_rates_computed_by_hand(make, options, expected):
    assert rates(8, 2, make, **options) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("make", "num_steps", "options", "message"),
    [
        (linear_with_warmup, math.inf, {}, "needs a run with an end"),
        (linear_with_warmup, 8, {"warmup_epochs": 3, "cooldown_epochs": 2}, "a run of 8 steps"),
        (warmup_stable_decay, 8, {"decay_share": 0.9}, "a run of 8 steps"),
        (one_cycle, 8, {"warmup_share": 1.5}, "scheduler.warmup_share=1.5: wanted a share"),
        (one_cycle, 8, {"min_lr_ratio": 5}, "scheduler.min_lr_ratio=5: wanted a share"),
        (linear_with_warmup, 8, {"min_lr_ratio": -1}, "scheduler.min_lr_ratio=-1: wanted a share"),
        (linear_with_warmup, 8, {"warmup_epochs": -1}, "scheduler.warmup_epochs=-1: wanted 0"),
        (warmup_stable_decay, 8, {"min_lr_ratio": -1}, "scheduler.min_lr_ratio=-1"),
        (warmup_stable_decay, 8, {"decay_share": 1.5}, "scheduler.decay_share=1.5"),
        (constant_with_warmup, 8, {"warmup_epochs": -1}, "scheduler.warmup_epochs=-1"),
        (constant_with_warmup, 8, {"warmup_epochs": 5}, "is 10 steps, but the run has only 8"),
    ],
)
def test_straight_schedules_refuse_runs_that_they_do_not_fit(
    make, num_steps, options, message, refusal
):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    assert message in refusal(lambda: make(optimizer, num_steps, 2, **options))


class Rates(Callback):
    """Note the rate of every optimizer step."""

    def __init__(self):
        self.values = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.values.append(optimizer.param_groups[0]["lr"])


@pytest.fixture
def fit(make_classifier, make_loader, make_trainer):
    """Fit single images; return the rate of every optimizer step, and the one left at the end."""

    def run(num_batches=10, **options):
        schedule = functools.partial(cosine_with_warmup, warmup_epochs=1, min_lr_ratio=0.05)
        rates = Rates()
        trainer = make_trainer(**options, callbacks=[rates])
        trainer.fit(make_classifier(scheduler=schedule), make_loader(num_batches, batch_size=1))
        return rates.values, trainer.optimizers[0].param_groups[0]["lr"]

    return run


@pytest.mark.parametrize(
    ("options", "num_steps", "peak_at"),
    [
        ({"max_epochs": 3}, 30, 10),
        ({"max_epochs": 3, "limit_train_batches": 4}, 12, 4),
        ({"max_epochs": 3, "max_steps": 13}, 13, 10),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 15, 5),
        ({"max_epochs": 3, "accumulate_grad_batches": 2, "num_batches": 9}, 15, 5),
        ({"max_epochs": -1, "max_steps": 13}, 13, 10),
    ],
    ids=["epochs", "few batches", "steps and epochs", "accumulated", "odd accumulated", "steps"],
)
def test_schedule_is_sized_from_the_steps_of_the_run(options, num_steps, peak_at, fit):
    values, last = fit(**options)
    assert len(values) == num_steps
    assert values[: peak_at + 1] == pytest.approx(
        [0.1 * (step + 1) / (peak_at + 1) for step in range(peak_at + 1)]
    )
    assert last == pytest.approx(0.1 * 0.05)


def test_without_a_schedule_the_rate_is_constant(make_classifier, make_loader, make_trainer):
    rates = Rates()
    make_trainer(max_epochs=2, callbacks=[rates]).fit(make_classifier(), make_loader())
    assert rates.values == [0.1] * 6


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"warmup_epochs": -1}, "scheduler.warmup_epochs=-1: wanted 0 or more"),
        ({"min_lr_ratio": -0.1}, "scheduler.min_lr_ratio=-0.1: wanted a share from 0 to 1"),
        ({"cooldown_epochs": math.nan}, "scheduler.cooldown_epochs=nan: wanted 0 or more epochs"),
        ({"start_lr_ratio": 1.5}, "scheduler.start_lr_ratio=1.5: wanted a share from 0 to 1"),
        ({"min_lr_ratio": 2}, "scheduler.min_lr_ratio=2: wanted a share from 0 to 1"),
    ],
)
def test_schedule_refuses_what_would_be_no_rate(options, wanted, refusal):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    assert wanted in refusal(lambda: cosine_with_warmup(optimizer, 10, 5, **options))
