"""Refuse secrets in a config: run folders, logs and reports would keep them.

What is not in a config is in none of these: nothing records the environment.
"""

import re
from collections.abc import Iterator
from typing import Any

from mambavision_lab.errors import ConfigError

_NAMES = re.compile(
    r"(^|[_\W])(api_?key|access_?key|private_?key|auth|token|pass(word|wd|phrase)?|secret|credentials?)$",
    re.IGNORECASE,
)
_URL = re.compile(r"\w+://[^/\s:@]*:[^/\s@]+@")  # with a password


def check_secrets(node: Any) -> None:
    """Check plain values.

    Raises:
        ConfigError: A key names a secret, or a URL holds a password; the message does not hold it.
    """
    for path, value in _texts(node, ""):
        is_named = bool(value) and _NAMES.search(path.rpartition(".")[2])
        if is_named or _URL.search(value):
            raise ConfigError(
                f"{path}: looks like a secret, which the run's folder and its report would keep; remove it, "
                "and let the library read it from its own login or the environment"
            )


def _texts(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _texts(child, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for i, child in enumerate(node):
            yield from _texts(child, f"{path}[{i}]")
    elif isinstance(node, str):
        yield path, node
