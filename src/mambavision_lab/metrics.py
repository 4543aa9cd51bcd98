"""Format and compare metrics by their names alone (`val/acc1`, `train/images_per_s`)."""

_WAIT = "data_wait"  # share of the time


def format_metric(name: str, value: float) -> str:
    """Format a metric: accuracies and waits in percent, counts and speeds whole, others with 4 decimals."""
    if _is_accuracy(name) or name.endswith(_WAIT):
        return f"{value:.2%}"
    if is_count(name):
        return f"{value:,.0f}"
    return f"{value:.0f}" if is_speed(name) else f"{value:.4f}"


def is_count(name: str) -> bool:
    """Return whether a metric counts what the others were measured on, as num_images does."""
    return name.rpartition("/")[2].startswith("num_")


def is_speed(name: str) -> bool:
    """Return whether a metric is of the speed, which no two runs share."""
    return name.endswith(("_per_s", _WAIT))


def is_lower_better(name: str | None) -> bool:
    """Return whether a metric is one to minimise."""
    return name is not None and "loss" in name


def is_loss_or_accuracy(name: str) -> bool:
    """Return whether a metric is one of those of which `is_lower_better` is sure."""
    return is_lower_better(name) or _is_accuracy(name)


def _is_accuracy(name: str) -> bool:
    return name.rpartition("/")[2].startswith("acc")
