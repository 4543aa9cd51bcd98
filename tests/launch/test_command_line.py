import dataclasses

import pytest

from mambavision_lab.launch.command_line import parse_command, read_command


def parse(*arguments):
    return parse_command("train", ["train.py", *arguments])


def test_flags_stand_anywhere_and_overrides_keep_their_order():
    command = parse("seed=1,2", "-m", "data=digits", "--config-dir", "mine", "model.depth=2")
    assert command.overrides == ("seed=1,2", "data=digits", "model.depth=2")
    assert command.is_multirun
    assert command.flags.config_dir == "mine"
    assert not command.shows_only


@pytest.mark.parametrize(
    "override",
    ["data.mean=[0.5,0.4]", "name='a,b'", 'name="a, b"', "+x={a: 1, b: 2}", "~callbacks"],
)
def test_overrides_are_passed_on_as_they_were_typed(override):
    assert parse(override).overrides == (override,)


def test_check_and_from_run_are_the_commands_own():
    command = parse("check=true", "from_run='my runs/1'", "seed=1")
    assert (command.check, command.from_run, command.overrides) == (True, "my runs/1", ("seed=1",))
    assert parse("check=FALSE").check is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check=yes"], "check=yes: wanted true or false"),
        (["--frobnicate"], "--frobnicate: no such flag; see --help"),
        (["--cfg", "jbo"], "invalid choice: 'jbo'"),
        (["--config-dir"], "expected one argument"),
    ],
)
def test_command_that_cannot_be_parsed_is_refused_in_one_line(refusal, arguments, message):
    assert message in refusal(lambda: parse(*arguments))


def test_command_is_frozen_and_changes_by_copies():
    command = parse("seed=1")
    with pytest.raises(dataclasses.FrozenInstanceError):
        command.check = True
    resumed = command.with_overrides("ckpt_path='a'")
    assert resumed.overrides == ("seed=1", "ckpt_path='a'")
    assert (command.overrides, resumed.argv) == (("seed=1",), command.argv)


def test_command_line_is_that_of_the_process(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train.py", "seed=7"])
    assert read_command("train").overrides == ("seed=7",)
