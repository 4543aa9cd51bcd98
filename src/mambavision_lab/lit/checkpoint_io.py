"""Write checkpoints so that a crash or a full disk never costs the one before."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mambavision_lab.errors import RunError, explain
from mambavision_lab.files import replacing
from mambavision_lab.models.saved import load_checkpoint


class SafeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place, flush it and rename it; verify one before it is loaded."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write a checkpoint; where that fails, an earlier file of this name is as it was.

        Raises:
            RunError: The disk is full, or the folder cannot be written to.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):  # an error of torch's own
                raise
            raise RunError(
                f"{path}: cannot be written ({explain(cause)}); the earlier checkpoints are as they were"
            ) from error

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Load a verified checkpoint onto the CPU; nothing pickled in it is run.

        Raises:
            ConfigError: It cannot be used; the message is one line.
        """
        return load_checkpoint(path)
