"""MambaVision Lab: train, compare and ship hybrid Mamba-Transformer backbones.

Importing the package is cheap: torch and the networks load when a name is first used.
`import mambavision_lab.timm` makes the networks known to timm; so does this where timm was imported before.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mambavision_lab.analysis.analyze import analyze_model
    from mambavision_lab.api import (
        analyze,
        compose,
        evaluate,
        explain,
        export,
        predict,
        preview,
        serve,
        train,
    )
    from mambavision_lab.data.create import create_datamodule
    from mambavision_lab.inference import MambaVisionInference
    from mambavision_lab.models.create import (
        create_mambavision,
        create_mambavision_base,
        create_mambavision_custom,
        create_mambavision_small,
        create_mambavision_tiny,
    )
    from mambavision_lab.report.write import plot_training_curves

__version__ = "0.1.0"

_HOMES = {
    "compose": "mambavision_lab.api",
    "train": "mambavision_lab.api",
    "evaluate": "mambavision_lab.api",
    "predict": "mambavision_lab.api",
    "export": "mambavision_lab.api",
    "analyze": "mambavision_lab.api",
    "preview": "mambavision_lab.api",
    "explain": "mambavision_lab.api",
    "serve": "mambavision_lab.api",
    "create_datamodule": "mambavision_lab.data.create",
    "create_mambavision": "mambavision_lab.models.create",
    "MambaVisionInference": "mambavision_lab.inference",
    "create_mambavision_tiny": "mambavision_lab.models.create",
    "create_mambavision_small": "mambavision_lab.models.create",
    "create_mambavision_base": "mambavision_lab.models.create",
    "create_mambavision_custom": "mambavision_lab.models.create",
    "analyze_model": "mambavision_lab.analysis.analyze",
    "plot_training_curves": "mambavision_lab.report.write",
}

__all__ = [
    "MambaVisionInference",
    "analyze",
    "analyze_model",
    "compose",
    "create_datamodule",
    "create_mambavision",
    "create_mambavision_base",
    "create_mambavision_custom",
    "create_mambavision_small",
    "create_mambavision_tiny",
    "evaluate",
    "explain",
    "export",
    "plot_training_curves",
    "predict",
    "preview",
    "serve",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])


if "timm" in sys.modules:
    import_module("mambavision_lab.timm")
