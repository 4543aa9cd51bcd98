"""Run ExecuTorch's programs, one image at a time."""

import json
from pathlib import Path

import torch
from torch import Tensor

from mambavision_lab.exporters.runtimes.base import Runtime

DESCRIPTION = "description"  # the method that returns the metadata as JSON


def load(path: Path) -> Runtime:
    """Load a .pte file."""
    from executorch.runtime import Runtime as Executorch

    program = Executorch.get().load_program(path)
    forward = program.load_method("forward")
    has_description = DESCRIPTION in program.method_names
    stored = program.load_method(DESCRIPTION).execute([])[0] if has_description else "{}"

    def run(images: Tensor) -> Tensor:
        # Its outputs lie in memory that the next call writes to.
        return torch.cat([forward.execute([image[None]])[0].clone() for image in images])

    return Runtime(run, json.loads(stored))
