"""What each option means is read from docstrings and from the comments of YAMLs."""

from mambavision_lab.config.meanings import (
    meaning_of,
    parse_arguments,
    read_arguments,
    read_comments,
)

DOCSTRING = """Do something.

Args:
    size: Pixels a side,
        at least one.
    low, high (float, optional): Ends of the range (inclusive): both.

Returns:
    other: nothing of interest.
"""


def test_arguments_of_a_docstring_are_read():
    arguments = parse_arguments(DOCSTRING)
    assert arguments["size"].text == "Pixels a side, at least one."
    assert arguments["low"] == arguments["high"]
    assert arguments["low"].type == "float, optional"
    assert set(arguments) == {"size", "low", "high"}


def test_arguments_of_a_class_include_those_of_its_bases():
    arguments = read_arguments("mambavision_lab.data.synthetic.SyntheticDataModule")
    assert arguments["num_val"].text == "Images to validate on."
    assert arguments["image_size"].text == "Pixels per side that the network receives."


def test_comments_behind_and_above_a_key_are_read(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "# What the file is.\na: 1\nb: '#1'  # of b's\n# Above,\n# in two lines.\nc:\n  d: 'x'  # inner\n"
    )
    assert read_comments(path) == {"b": "of b's", "c": "Above, in two lines.", "c.d": "inner"}


def test_meaning_of_an_option_comes_from_its_class_or_its_comment(compose):
    cfg = compose("train")
    expected = "Share of each training class that is held out where there is no val split"
    assert meaning_of("data.val_fraction", compose("train", "data=cifar10")) == expected
    assert meaning_of("optimizer.lr", cfg) == "learning rate at its peak"
    assert meaning_of("seed", cfg).startswith("Initialisation, shuffling and augmentation")
    assert meaning_of("nonsense.key", cfg) is None
