"""Check how many images an optimizer step takes, and of which sizes."""

from typing import Any

from mambavision_lab.errors import ConfigError


def check_step(cfg: dict[str, Any]) -> None:
    """Check the plain values of a training's config, as far as they tell the number of processes.

    Raises:
        ConfigError: The first thing found wrong.
    """
    data, trainer, classifier = (cfg.get(key) or {} for key in ("data", "trainer", "classifier"))
    num_nodes, devices = trainer.get("num_nodes", 1), trainer.get("devices")
    num_devices = len(devices) if isinstance(devices, list) else devices
    is_known = isinstance(num_devices, int) and num_devices > 0 and isinstance(num_nodes, int)
    accumulated_batches(
        data,
        trainer.get("accumulate_grad_batches", 1),
        num_devices * num_nodes if is_known else 1,  # divides the real number
    )
    _check_sizes(cfg.get("multi_scale") or {}, data)
    reference = classifier.get("lr_batch_size")
    if reference is None:
        return
    if reference < 1:
        raise ConfigError(f"classifier.lr_batch_size={reference}: wanted 1 or more images")
    if classifier.get("scale_lr") is None:
        raise ConfigError(
            f"classifier.lr_batch_size={reference}: changes nothing without classifier.scale_lr; "
            "choose linear or sqrt"
        )


def accumulated_batches(data: Any, given: int, num_processes: int) -> int:
    """Return how many batches a step accumulates, with `data.global_batch_size` or as given.

    Args:
        data: The config's node.
        given: `trainer.accumulate_grad_batches`.
        num_processes: Of all nodes; a divisor of their number still finds most of what is wrong.

    Raises:
        ConfigError: It is no multiple of the images that all processes take at once, or given already.
    """
    wanted, batch_size = data.get("global_batch_size"), data.get("batch_size")
    if wanted is None or batch_size is None or batch_size < 1:
        return given
    at_once = batch_size * num_processes
    product = f"data.batch_size={batch_size}"
    if num_processes > 1:
        product += f" x {num_processes} processes = {at_once}"
    if wanted < 1 or wanted % at_once:
        nearest = max(1, round(wanted / at_once)) * at_once
        raise ConfigError(
            f"data.global_batch_size={wanted}: is no multiple of {product}; give "
            f"data.global_batch_size={nearest}, or another data.batch_size or number of devices"
        )
    if given != 1 and wanted != given * at_once:
        raise ConfigError(
            f"trainer.accumulate_grad_batches={given}: data.global_batch_size={wanted} of {product} "
            f"accumulates {wanted // at_once}; leave it at 1"
        )
    return wanted // at_once


def _check_sizes(multi_scale: dict[str, Any], data: dict[str, Any]) -> None:
    """Refuse to enlarge images that are read at `data.image_size`, and steps that cannot be held."""
    sizes, image_size = multi_scale.get("sizes") or [], data.get("image_size")
    largest = max((size for size in sizes if isinstance(size, int)), default=0)
    if isinstance(image_size, int) and largest > image_size:
        raise ConfigError(
            f"multi_scale.sizes={sizes}: images are read with data.image_size={image_size} pixels and "
            f"would be enlarged; give data.image_size={largest}, or smaller sizes"
        )
    if multi_scale.get("scale_batch") and data.get("global_batch_size") is not None:
        raise ConfigError(
            f"multi_scale.scale_batch=true: the images per step follow their size, and "
            f"data.global_batch_size={data['global_batch_size']} fixes them; give one of the two"
        )
