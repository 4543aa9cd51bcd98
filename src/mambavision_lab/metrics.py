"""Format and compare metrics by their names alone (`val/acc1`, `train/images_per_s`)."""


def format_metric(name: str, value: float) -> str:
    """Format a metric: accuracies in percent, counts and speeds as whole numbers, others with 4 decimals."""
    if _is_accuracy(name):
        return f"{value:.2%}"
    if is_count(name):
        return f"{value:,.0f}"
    return f"{value:.0f}" if is_speed(name) else f"{value:.4f}"


def is_count(name: str) -> bool:
    """Return whether a metric counts what others were measured on (images), or after (epochs, steps)."""
    return name in ("epoch", "step") or name.rpartition("/")[2].startswith("num_")


def is_speed(name: str) -> bool:
    """Return whether a metric is a speed, which no two runs share."""
    return name.endswith("_per_s")


def is_lower_better(name: str | None) -> bool:
    """Return whether a metric is one to minimise."""
    return name is not None and "loss" in name


def is_loss_or_accuracy(name: str) -> bool:
    """Return whether a metric is one of those of which `is_lower_better` is sure."""
    return is_lower_better(name) or _is_accuracy(name)


def _is_accuracy(name: str) -> bool:
    return name.rpartition("/")[2].startswith("acc")
