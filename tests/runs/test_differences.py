import json

import pytest
from omegaconf import OmegaConf

from mambavision_lab.runs.differences import (
    find_differences,
    read_differences,
    write_differences,
)


@pytest.fixture
def differences_of(compose):
    """Differences of a training run with overrides."""

    def find(*overrides):
        default, here = (
            OmegaConf.to_container(compose("train", *given), resolve=False)
            for given in ((), overrides)
        )
        return find_differences(default, here, overrides)

    return find


def test_run_without_overrides_differs_in_nothing(differences_of):
    assert differences_of() == []
    assert differences_of("name=another", "paths.log_dir=elsewhere") == []  # no settings


def test_differences_are_the_settings_given(differences_of):
    assert differences_of("seed=7", "model.depth=8", "optimizer.lr=0.00025") == [
        ("model.depth", "4", "8"),
        ("optimizer.lr", "0.001", "0.00025"),
        ("seed", "42", "7"),
    ]


def test_settings_that_follow_another_are_no_differences_unless_given(differences_of):
    # The model's num_classes and in_chans follow the data's.
    found = {key: row for key, *row in differences_of("data=cifar100")}
    assert found["data._target_"] == ["SyntheticDataModule", "CIFAR100DataModule"]
    assert not [key for key in found if key.startswith("model.")]
    assert differences_of("model.num_classes=20") == [
        ("model.num_classes", "${data.num_classes}", "20")
    ]


def test_absent_groups_differ_by_what_they_lack(differences_of):
    rows = differences_of("augment=none", "~logger.csv")
    assert ("augment._target_", "Augment", "-") in rows
    assert {key.partition(".")[0] for key, _, here in rows if here == "-"} == {"augment", "logger"}


def test_differences_with_nested_and_empty_values():
    default = {"a": {"b": None, "c": {}, "d": [1, 2]}, "e": 1.0}
    here = {"a": {"b": {}, "d": [1, 3]}, "e": 1.0, "f": "${e}", "g": True}
    assert find_differences(default, here, []) == [
        ("a.d", "[1, 2]", "[1, 3]"),
        ("g", "-", "True"),
    ]


def test_stored_differences_are_read_back(tmp_path):
    assert read_differences(tmp_path) is None  # a run of an earlier version
    rows = [("seed", "42", "7"), ("data.root", "-", "Bücher")]
    write_differences(rows, tmp_path)
    assert read_differences(tmp_path) == rows
    write_differences([], tmp_path)
    assert read_differences(tmp_path) == []


@pytest.mark.parametrize("text", ["{}", "[1]", '[["seed", "42"]]', "[", ""])
def test_damaged_differences_are_refused(tmp_path, text):
    (tmp_path / "differences.json").write_text(text)
    with pytest.raises(ValueError, match=r"damaged|Expecting"):
        read_differences(tmp_path)


def test_differences_are_plain_rows_in_the_file(tmp_path):
    write_differences([("seed", "42", "7")], tmp_path)
    assert json.loads((tmp_path / "differences.json").read_text()) == [["seed", "42", "7"]]
