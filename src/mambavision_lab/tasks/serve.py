"""Serve a network over HTTP until the process is stopped."""

import importlib.util
import math
import socket

from omegaconf import DictConfig

from mambavision_lab.errors import ConfigError, missing_extra, reason
from mambavision_lab.inference import MambaVisionInference
from mambavision_lab.runs.folder import open_run_folder
from mambavision_lab.tasks.console import console
from mambavision_lab.tasks.memory import keep_freed_memory

_PACKAGES = {"starlette": "starlette", "uvicorn": "uvicorn", "python_multipart": "python-multipart"}
_MOST_MEGAPIXELS = 178  # Pillow's own limit, twice Image.MAX_IMAGE_PIXELS
_LEAST = (
    *("batch_size", "max_images", "max_megabytes", "max_megapixels", "max_waiting"),
    *("timeout_s", "top_k"),
)


def serve(cfg: DictConfig) -> None:
    """Serve a network over HTTP.

    Args:
        cfg: The composed config, as in `configs/serve.yaml`.

    Raises:
        ConfigError: A setting is impossible, a package is missing, or the port is taken.
    """
    for module, package in _PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            raise missing_extra("serve.py", package, "serve")
    import uvicorn

    from mambavision_lab.server.app import Limits, make_app

    for name in _LEAST:
        if not 0 < cfg[name] < math.inf:  # NaN is neither
            raise ConfigError(f"{name}={cfg[name]}: wanted a number above 0")
    if cfg.max_megapixels > _MOST_MEGAPIXELS:
        raise ConfigError(
            f"max_megapixels={cfg.max_megapixels}: wanted at most {_MOST_MEGAPIXELS}, which Pillow opens"
        )
    if not 0 <= cfg.batch_wait_ms < math.inf:
        raise ConfigError(f"batch_wait_ms={cfg.batch_wait_ms}: wanted a number from 0")
    if not 0 <= cfg.threshold <= 1:
        raise ConfigError(f"threshold={cfg.threshold}: wanted a probability, from 0 to 1")
    if not 0 <= cfg.port < 2**16:
        raise ConfigError(f"port={cfg.port}: wanted a number from 0 (any free port) to {2**16 - 1}")
    keep_freed_memory()
    inference = MambaVisionInference(
        cfg.model_file or cfg.ckpt_path,
        device=cfg.device,
        scan_backend=cfg.ops.selective_scan.backend,
    )
    inference.require_class_names()
    inference.require_images("serve.py")
    limits = Limits(
        max_images=cfg.max_images,
        max_bytes=int(cfg.max_megabytes * 1e6),
        max_pixels=int(cfg.max_megapixels * 1e6),
        max_waiting=cfg.max_waiting,
        timeout_s=cfg.timeout_s,
        batch_size=cfg.batch_size,
        batch_wait_ms=cfg.batch_wait_ms,
        top_k=cfg.top_k,
        threshold=cfg.threshold,
    )
    listening = _listen(cfg.host, cfg.port)
    open_run_folder(cfg, is_latest=False)
    host, port = listening.getsockname()[:2]
    host = f"[{host}]" if ":" in host else host  # of IPv6
    console.print(f"serving on http://{host}:{port}, Ctrl-C stops it", soft_wrap=True)
    settings = uvicorn.Config(make_app(inference, limits), log_level="warning", access_log=False)
    uvicorn.Server(settings).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    """Bind the address first, so that one that is taken is refused in one line."""
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # From here on requests wait, and none is refused.
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"host={host} port={port}: cannot be listened on ({reason(error)}); give another host or port"
        ) from error
