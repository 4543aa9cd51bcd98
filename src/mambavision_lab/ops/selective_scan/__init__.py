"""The selective scan of Mamba behind one public call; see `api.py`."""

from mambavision_lab.ops.selective_scan.api import (
    available_backends,
    check_backend_name,
    selective_scan,
)
from mambavision_lab.ops.selective_scan.backends.base import BackendUnavailableError

__all__ = ["BackendUnavailableError", "available_backends", "check_backend_name", "selective_scan"]
