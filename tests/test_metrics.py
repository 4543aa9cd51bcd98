import pytest

from mambavision_lab.metrics import format_metric, has_known_direction, is_lower_better


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("val/acc1", 0.9034, "90.34%"),
        ("acc5", 1.0, "100.00%"),
        ("val_raw/map", 0.5, "50.00%"),
        ("f1_macro", 0.25, "25.00%"),
        ("train/loss", 0.12345, "0.1235"),
        ("test/images_per_s", 1429.4, "1429"),
        ("val/loss", float("nan"), "nan"),
        ("test/num_images", 50000.0, "50,000"),
        ("epoch", 8, "8"),
    ],
)
def test_metric_is_formatted_by_its_name(name, value, shown):
    assert format_metric(name, value) == shown


def test_losses_are_minimised_and_accuracies_are_not():
    assert is_lower_better("val/loss")
    assert not is_lower_better("val/acc1")
    assert not is_lower_better(None)


def test_what_is_best_is_known_of_losses_and_accuracies_alone():
    names = ["val/loss", "val/acc1", "test/images_per_s", "grad_norm", "lr-AdamW", "None"]
    assert [name for name in names if has_known_direction(name)] == names[:2]
