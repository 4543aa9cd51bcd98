from datetime import timedelta

import pytest

from mambavision_lab.config.durations import check_duration, find_durations


def test_durations_are_read_for_parameters_that_take_one():
    checkpoint = "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint"
    node = {"_target_": checkpoint, "filename": "00:00:00:01", "train_time_interval": "01:02:03:04"}
    wanted = timedelta(days=1, hours=2, minutes=3, seconds=4)
    assert find_durations(node) == {"train_time_interval": wanted}
    assert find_durations(None) == {}


@pytest.mark.parametrize(
    "value", ["1:00", "00:00:30", "", {}, {"hour": 1}, {"hours": "two"}, {"days": -1}]
)
def test_other_texts_are_refused(refusal, value):
    assert f"x.y={value}: wanted a duration" in refusal(lambda: check_duration("x.y", value))


@pytest.mark.parametrize("value", ["00:12:00:00", {"hours": 1.5}, 0.5, None, {"_target_": "a.B"}])
def test_durations_and_other_values_are_accepted(value):
    check_duration("x.y", value)
