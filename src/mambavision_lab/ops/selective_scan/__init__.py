"""The selective scan of Mamba behind one public call; see `api.py`."""

from mambavision_lab.ops.selective_scan.api import (
    BackendUnavailableError,
    available_backends,
    selective_scan,
)

__all__ = ["BackendUnavailableError", "available_backends", "selective_scan"]
