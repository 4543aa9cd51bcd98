import pytest

from mambavision_lab.counting import counted


@pytest.mark.parametrize(
    ("number", "noun", "words"),
    [
        (0, "images", "0 images"),
        (1, "images", "1 image"),
        (1, "classes", "1 class"),
        (1, "batches", "1 batch"),
        (1, "slices", "1 slice"),
        (1200, "epochs", "1,200 epochs"),
    ],
)
def test_a_noun_follows_its_number(number, noun, words):
    assert counted(number, noun) == words
