"""Download from the Hugging Face hub; each failure is a message of one line.

The hub's library takes long to import, so only a download imports it.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from mambavision_lab.errors import ConfigError, reason

log = logging.getLogger(__name__)


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Keep the hub's library from logging every attempt; also a decorator."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@quiet_hub()
def download_folder(
    repository: str,
    names: list[str],
    *,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Path:
    """Download these files of a repository, or take them from the cache; returns their folder.

    Raises:
        ConfigError: There is no such repository or revision, or no network.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(repository, revision=revision, token=token, allow_patterns=names)
        )
    except Exception as error:  # of many kinds: no network, no such id, no permission
        raise ConfigError(
            f"{repository}: no such folder here, and the Hugging Face hub did not give it "
            f"({type(error).__name__}: {reason(error, 160)}); check the name and the network"
        ) from error


@quiet_hub()
def download_file(repository: str, choose: Callable[[list[str]], str]) -> Path:
    """Download one file of a repository, or take it from the cache if the hub cannot be asked.

    Args:
        repository: Its id, such as "nvidia/MambaVision-T-1K".
        choose: Gives the name of the file, among all that the repository holds.

    Raises:
        ConfigError: There is no such repository, and nothing of it in the cache.
    """
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    log.info("looking for %s on the Hugging Face hub", repository)
    try:
        # This asks once; the functions that download try for half a minute where there is no network.
        siblings = HfApi().model_info(repository, timeout=10).siblings or []
        path = Path(hf_hub_download(repository, choose([s.rfilename for s in siblings])))
    except ConfigError:
        raise
    except Exception as error:  # of many kinds: no network, no such id, no permission
        try:
            folder = Path(snapshot_download(repository, local_files_only=True))
        except Exception:  # not in the cache; what the hub answered tells more
            raise ConfigError(
                f"pretrained={repository}: no such file or folder here, and the Hugging Face hub did not "
                f"give it ({type(error).__name__}: {reason(error, 160)}); "
                "check the name and the network, or give a file"
            ) from error
        path = folder / choose(sorted(p.name for p in folder.iterdir()))
    if repository.startswith("nvidia/"):
        _warn_of_licence(repository)
    return path


@cache
def _warn_of_licence(repository: str) -> None:
    log.warning(
        "%s: these weights are licensed CC-BY-NC-SA 4.0 (not for commercial use)", repository
    )
