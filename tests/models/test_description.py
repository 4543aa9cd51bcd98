from pathlib import Path

import pytest

from mambavision_lab.data.preparation import SETTINGS, SETTINGS_OF_SOME
from mambavision_lab.models.description import _OF_IMAGES, check_description

GOOD = {
    "architecture": {"_target_": "a.B"},
    "preprocessing": {
        **{"image_size": 32, "in_chans": 3, "mean": [0.5], "std": [1], "keeps_aspect": True},
        **{"crop_fraction": 1, "value_range": None, "background": [255, 255, 255]},
    },
    "class_names": ["cat", "dog"],
    "is_multilabel": False,
    "name": None,
}


def test_description_as_it_is_written_is_taken():
    check_description(GOOD, Path("model.onnx"))
    check_description({}, Path("model.onnx"))


def test_all_settings_of_the_data_are_checked():
    assert {*_OF_IMAGES} == {*SETTINGS, *SETTINGS_OF_SOME}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"architecture": 7}, "its architecture is '7', and options of a network was wanted"),
        ({"class_names": [0, 1]}, "class_names is '[0, 1]'"),
        ({"class_names": "cat"}, "class_names is 'cat'"),
        ({"has_masks": 1}, "has_masks is '1'"),
        ({"preprocessing": [1]}, "preprocessing is '[1]'"),
        ({"preprocessing": {"image_size": "32"}}, "preprocessing.image_size is '32'"),
        ({"preprocessing": {"image_size": True}}, "preprocessing.image_size is 'True'"),
        ({"preprocessing": {"mean": 0.5}}, "preprocessing.mean is '0.5'"),
        ({"preprocessing": {"std": ["a"]}}, "preprocessing.std is"),
        ({"preprocessing": {"value_range": 5}}, "preprocessing.value_range is '5'"),
        ({"preprocessing": {"value_range": ["a", "b"]}}, "preprocessing.value_range is"),
        ({"preprocessing": {"value_range": [3, 3]}}, "and two numbers, of black and"),
        (
            {"preprocessing": {"background": [0]}},
            "and three numbers, red, green and blue was wanted",
        ),
        ({"preprocessing": {"slices": 3}}, "preprocessing.slices is '3'"),
    ],
)
def test_value_of_another_type_is_refused_by_its_key(refusal, changed, words):
    message = refusal(lambda: check_description(GOOD | changed, Path("model.onnx")))
    assert message.startswith("model.onnx: ")
    assert words in message
