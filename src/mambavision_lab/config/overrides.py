"""Read and write single overrides in Hydra's grammar: their keys, and values that are taken literally."""

import re
import shlex
from collections.abc import Iterable
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf

_QUOTED = re.compile(r"""(['"])(?:\\.|(?!\1)[^\\])*\1""", re.DOTALL)
_PLAIN_IN_DOUBLE_QUOTES = re.compile(r'[^"$`\\!]*')  # nothing that a shell would read there


def key_of(override: str) -> str:
    """Return the key of an override, such as "data" of "+data=cifar10" or "~data"."""
    return override.lstrip("+~").partition("=")[0]


def given_overrides() -> list[str]:
    """Return the overrides of this command, unresolved; none where Python calls a task."""
    if not HydraConfig.initialized():
        return []
    given: Any = OmegaConf.to_container(HydraConfig.get().overrides.task)
    return given


def parse(override: str) -> Override | None:
    """Parse one override as Hydra does; None where its grammar cannot."""
    try:
        return OverridesParser.create().parse_override(override)
    except HydraException:
        return None


def quoted(value: object) -> str:
    """Quote a value so that Hydra takes it literally, `${` included."""
    return quoted_once(escaped(str(value)))


def escaped(value: str) -> str:
    """Escape each `${` for OmegaConf, for which it would begin a reference."""
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)  # backslashes before it are doubled


def quoted_once(value: str) -> str:
    """Quote a value so that Hydra's grammar takes it literally; a `${...}` still refers to a value."""
    # Backslashes escape before a quote alone, there they are doubled.
    text = re.sub(r"(\\*)('|$)", lambda m: 2 * m[1] + ("\\'" if m[2] else ""), value)
    return f"'{text}'"


def unquoted(value: str) -> str:
    """Return a value without the quotes around it, if it has any, as Hydra reads it."""
    if not _QUOTED.fullmatch(value):
        return value
    text = re.sub(rf"(\\+)({value[0]}|$)", lambda m: m[1][: len(m[1]) // 2] + m[2], value[1:-1])
    return re.sub(r"(\\+)\$\{", lambda m: m[1][: len(m[1]) // 2] + "${", text)


def to_type(key: str, value: str, *others: str) -> str:
    """Return what to type in a shell for a value, or several of a sweep, that are taken literally.

    The items of a list are quoted one by one.
    """
    if value.startswith("["):
        items = value.removeprefix("[").removesuffix("]").split(",")
        text = f"{key}=[{','.join(quoted_once(item.strip()) for item in items)}]"
    else:
        text = f"{key}={','.join(map(quoted_once, (value, *others)))}"
    return f'"{text}"' if _PLAIN_IN_DOUBLE_QUOTES.fullmatch(text) else shlex.quote(text)


def shell_line(words: Iterable[str]) -> str:
    """Return a command line as a shell takes it, a word that has single quotes within double ones."""
    return " ".join(
        f'"{word}"'
        if "'" in word and _PLAIN_IN_DOUBLE_QUOTES.fullmatch(word)
        else shlex.quote(word)
        for word in words
    )
