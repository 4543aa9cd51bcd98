"""Analyze a network: costs by stage, latency and peak memory."""

from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from mambavision_lab.analysis.analyze import analyze_model
from mambavision_lab.analysis.latency import latency_table, measure, plot, write_csv
from mambavision_lab.config.overrides import given_overrides, key_of
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.runs.folder import open_run_folder, short_path
from mambavision_lab.tasks.build import build
from mambavision_lab.tasks.console import console
from mambavision_lab.tasks.exported_files import refuse_existing


def analyze(cfg: DictConfig) -> None:
    """Print a network's costs by stage and its latencies, and write the latter as a table and a picture.

    Args:
        cfg: The composed config, as in `configs/analyze.yaml`.

    Raises:
        ConfigError: The network or the device cannot be used, or a file exists and may not be replaced.
    """
    _check_sizes(cfg)
    name = cfg.name if cfg.ckpt_path is None else _name_of(Path(cfg.ckpt_path))
    output = Path(cfg.output or cfg.paths.output_dir)
    refuse_existing(output, [f"{name}.csv", f"{name}.png"], cfg.overwrite)
    net, in_chans, image_sizes, num_slices = _fresh(cfg) if cfg.ckpt_path is None else _trained(cfg)
    sides = [image_sizes[0]] * 2 if num_slices is None else [num_slices, *[image_sizes[0]] * 2]
    open_run_folder(cfg, is_latest=False)
    try:
        console.print(analyze_model(net, (in_chans, *sides)).table())
        points = measure(net, in_chans, image_sizes, cfg.batch_sizes, num_slices=num_slices)
    except ValueError as error:
        raise ConfigError(f"image_sizes={image_sizes}: {reason(error)}") from error
    device = next(net.parameters()).device
    where = f"{device.type}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    console.print(latency_table(points, where))
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_csv(points, output / f"{name}.csv")
        plot(points, f"{name} on {where}", output / f"{name}.png")
    except OSError as error:
        raise ConfigError(
            f"output={output}: cannot be written to ({error.strerror}); give another folder"
        ) from error
    console.print(f"written: {short_path(output / name)}.csv and .png", soft_wrap=True)


def _check_sizes(cfg: DictConfig) -> None:
    sizes = {
        "batch_sizes": cfg.batch_sizes,
        **{f"data.{k}": [n] for k, n in cfg.data.items() if n is not None},
    }
    if cfg.image_sizes is not None:
        sizes["image_sizes"] = cfg.image_sizes
    for key, numbers in sizes.items():
        if min(numbers, default=0) < 1:
            raise ConfigError(f"{key}={OmegaConf.select(cfg, key)}: wanted positive whole numbers")


def _fresh(cfg: DictConfig) -> tuple[nn.Module, int, list[int], int | None]:
    """Make the network of `model`; returns it with its channels, the image sizes to time, and slices."""
    image_sizes = list(cfg.image_sizes or [cfg.data.image_size])
    cfg = cfg.copy()
    cfg.data.image_size = image_sizes[0]
    net: nn.Module = build(cfg.model, "model")
    try:
        net = net.to(cfg.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device={cfg.device}: cannot be used ({reason(error)})") from error
    is_of_volumes = getattr(net, "dims", 2) == 3
    num_slices = cfg.data.num_slices or image_sizes[0] if is_of_volumes else None
    return net, cfg.data.in_chans, image_sizes, num_slices


def _trained(cfg: DictConfig) -> tuple[nn.Module, int, list[int], int | None]:
    """Load the network of `ckpt_path`; returns what `_fresh` does."""
    if ignored := [o for o in given_overrides() if key_of(o).startswith(("model", "data"))]:
        raise ConfigError(
            f"{ignored[0]}: cannot change a trained network; remove it, or from_run and ckpt_path"
        )
    trained = MambaVisionInference(
        cfg.ckpt_path,
        device=cfg.device,
        scan_backend=cfg.ops.selective_scan.backend,
    )
    return (
        trained.torch_net("analyze"),
        trained.in_chans,
        list(cfg.image_sizes or [trained.image_size]),
        trained.preparation.sides[0] if len(trained.preparation.sides) == 3 else None,
    )


def _name_of(checkpoint: Path) -> str:
    """Name the files after a checkpoint and the run folder, or another one, that holds it."""
    folder = checkpoint.absolute().parent
    folder = folder.parent if folder.name == "checkpoints" else folder
    return f"{folder.name}-{checkpoint.stem}"
