"""Format and compare metrics by their names alone (`val/acc1`, `train/images_per_s`)."""

_WAIT = "data_wait"  # share of the time
MASK_METRICS = ["dice", "miou"]  # of a segmentation, the one to choose checkpoints by first


def metrics_of_predictions(num_classes: int, is_multilabel: bool) -> list[str]:
    """List what validation and test measure beside the loss, the one to choose checkpoints by first."""
    if is_multilabel:
        return ["map", "f1_macro", "f1_micro"]
    return ["acc1", "acc5"] if num_classes > 5 else ["acc1"]


def main_metric(is_multilabel: bool, has_masks: bool = False) -> str:
    """Return the metric of the validation to choose checkpoints by."""
    names = MASK_METRICS if has_masks else metrics_of_predictions(0, is_multilabel)
    return f"val/{names[0]}"


def cheap_metrics(names: list[str]) -> list[str]:
    """Return those that training measures: what adds up over batches, the main one of its kind."""
    return [name for name in names if name not in ("acc5", "map", "miou")]


def format_metric(name: str, value: float) -> str:
    """Format a metric: shares in percent, counts and speeds whole, others with 4 decimals."""
    if _is_share(name) or name.endswith(_WAIT):
        return f"{value:.2%}"
    if is_count(name):
        return f"{value:,.0f}"
    return f"{value:.0f}" if is_speed(name) else f"{value:.4f}"


def is_count(name: str) -> bool:
    """Return whether a metric counts what others were measured on (images), or after (epochs, steps)."""
    return name in ("epoch", "step") or name.rpartition("/")[2].startswith("num_")


def is_speed(name: str) -> bool:
    """Return whether a metric is of the speed, which no two runs share."""
    return name.endswith(("_per_s", _WAIT))


def is_lower_better(name: str | None) -> bool:
    """Return whether a metric is one to minimise."""
    return name is not None and "loss" in name


def has_known_direction(name: str) -> bool:
    """Return whether a metric is one of those of which `is_lower_better` is sure."""
    return is_lower_better(name) or _is_share(name)


def _is_share(name: str) -> bool:
    own = name.rpartition("/")[2]
    known = [*metrics_of_predictions(0, is_multilabel=True), *MASK_METRICS]
    return own.startswith("acc") or own in known
