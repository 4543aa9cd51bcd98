"""Analyse a network: costs by stage, latency and peak memory.

python -m mambavision_lab.analysis model=mambavision_small image_sizes=224,256 batch_sizes=1,8
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import timm
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from hydra.utils import instantiate
from rich.console import Console
from torch import nn

from mambavision_lab.analysis.analyze import analyze_model
from mambavision_lab.analysis.latency import latency_table, measure, plot, write_csv
from mambavision_lab.config.resolvers import register
from mambavision_lab.errors import ConfigError
from mambavision_lab.files import configs_folder
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.launch.entry import refuse

OPTIONS = {
    "model": "mambavision_nano",
    "image_sizes": "224",  # a trained network's own, where none is given
    "batch_sizes": "1,8",
    "num_classes": "1000",
    "device": "cuda" if torch.cuda.is_available() else "cpu",
    "output": "analysis",
    "overwrite": "false",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    defaults = " ".join(f"{key}={value}" for key, value in OPTIONS.items())
    parser = argparse.ArgumentParser(
        prog="python -m mambavision_lab.analysis",
        description="Parameters, MACs and memory by stage; measured latency and peak memory.",
        epilog=f"Options and their defaults: {defaults}. model is a file of configs/model, any of timm's, "
        "or a run folder or checkpoint.",
    )
    parser.add_argument("options", nargs="*", metavar="key=value")
    try:
        _analyse(parser.parse_args(arguments).options)
    except ConfigError as error:
        refuse(error)


def _analyse(given: list[str]) -> None:
    options = dict(OPTIONS)
    for item in given:
        key, _, value = item.partition("=")
        if key not in OPTIONS or not value:
            raise ConfigError(
                f"{item}: no such option; wanted key=value with one of {', '.join(OPTIONS)}"
            )
        options[key] = value
    image_sizes, batch_sizes = (_numbers(options, key) for key in ("image_sizes", "batch_sizes"))
    (num_classes,) = _numbers(options, "num_classes")[:1]
    name, console = options["model"], Console(highlight=False)
    path = Path(options["output"]) / f"{name.strip('/').replace('/', '_')}.csv"
    if path.exists() and options["overwrite"] != "true":
        raise ConfigError(f"{path}: is already there; give overwrite=true or another output=")
    try:
        if _is_trained(name):
            trained = MambaVisionInference(name, device=options["device"])
            model, in_chans = trained.net, trained.in_chans
            if not any(item.startswith("image_sizes=") for item in given):
                image_sizes = [trained.image_size]
        else:
            model, in_chans = load_model(name, image_sizes[0], num_classes), 3
            model = model.to(options["device"])
        console.print(analyze_model(model, (in_chans, image_sizes[0], image_sizes[0])).table())
        points = measure(model, in_chans, image_sizes, batch_sizes)
    except (ValueError, RuntimeError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"model={name}: {' '.join(str(error).split())[:300]}") from error
    device = f"{options['device']}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    console.print(latency_table(points, device))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(points, path)
        plot(points, f"{name} on {device}", path.with_suffix(".png"))
    except OSError as error:
        raise ConfigError(
            f"output={options['output']}: cannot be written to ({error.strerror}); give another folder"
        ) from error
    console.print(f"wrote {path} and {path.stem}.png", soft_wrap=True)


def _is_trained(name: str) -> bool:
    is_config = (configs_folder() / "model" / f"{name}.yaml").is_file()
    return not is_config and Path(name).exists()


def load_model(name: str, image_size: int, num_classes: int) -> nn.Module:
    """A network with fresh weights, by the name of a model config or of timm.

    Raises:
        ConfigError: Neither knows the name.
    """
    if not re.fullmatch(r"\w+(/\w+)*|[\w.]+", name):
        raise ConfigError(
            f"model={name}: is no name and no file; wanted a file of configs/model, a timm model, "
            "a run folder or a checkpoint"
        )
    if (configs_folder() / "model" / f"{name}.yaml").is_file():
        register()
        sizes = [f"data.image_size={image_size}", f"data.num_classes={num_classes}"]
        try:
            with initialize_config_dir(version_base="1.3", config_dir=str(configs_folder())):
                # A model's sizes come from its data, here of photographs.
                cfg = compose("train", [f"model={name}", "data=synthetic", *sizes])
                return instantiate(cfg.model, _convert_="all", in_chans=3)
        except HydraException as error:
            raise ConfigError(f"model={name}: {' '.join(str(error).split())[:300]}") from error
    if timm.is_model(name):
        return timm.create_model(name, num_classes=num_classes)
    folder = configs_folder() / "model"
    known = sorted(p.relative_to(folder).with_suffix("").as_posix() for p in folder.rglob("*.yaml"))
    raise ConfigError(
        f"model={name}: no such network; choose {', '.join(known)}, a name of timm's, "
        "a run folder or a checkpoint"
    )


def _numbers(options: dict[str, str], key: str) -> list[int]:
    parts = options[key].split(",")
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(
            f"{key}={options[key]}: wanted positive whole numbers, such as {OPTIONS[key]}"
        )
    return [int(part) for part in parts]


if __name__ == "__main__":
    main()
