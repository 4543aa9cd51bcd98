"""Download a file: it is there as a whole, or not at all."""

import hashlib
import urllib.request
from http.client import HTTPException
from pathlib import Path

from mambavision_lab.data.progress import track
from mambavision_lab.errors import ConfigError, reason
from mambavision_lab.files import replacing

_TIMEOUT_S = 60
_CHUNK = 2**20  # bytes


def download(url: str, path: Path, md5: str | None = None) -> None:
    """Download a file, unless it is there.

    Args:
        url: Its address.
        path: Where it shall be.
        md5: Its checksum; None to compare only its length, where the server states that.

    Raises:
        ConfigError: It cannot be downloaded, or arrives damaged.
    """
    if path.is_file():
        return
    request = urllib.request.Request(url, headers={"User-Agent": "mambavision-lab"})
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response,
            replacing(path) as file,
        ):
            digest = hashlib.md5(usedforsecurity=False)
            length = response.headers["Content-Length"]
            chunks = iter(lambda: response.read(_CHUNK), b"")
            num_chunks = -(-int(length) // _CHUNK) if length else None
            for chunk in track(chunks, f"download {path.name}", num_chunks):
                file.write(chunk)
                digest.update(chunk)
            if length is not None and file.tell() != int(length):
                raise ValueError(f"the connection ended after {file.tell()} of {length} bytes")
            if md5 is not None and digest.hexdigest() != md5:
                raise ValueError("its checksum is another than the published one")
    except (OSError, HTTPException, ValueError) as error:
        raise ConfigError(
            f"{path}: is not there and could not be downloaded from {url} ({reason(error)}); check the "
            "address and the network, or put the file there"
        ) from error
