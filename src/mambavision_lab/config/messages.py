"""Turn what Hydra and OmegaConf raise about a config into one line for the user."""

import re
from collections.abc import Iterator

from hydra.errors import MissingConfigException
from omegaconf import DictConfig
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
)

from mambavision_lab.config.group_checks import suggest
from mambavision_lab.config.meanings import meaning_of
from mambavision_lab.config.renames import OPTIONS
from mambavision_lab.config.signatures import read_signature
from mambavision_lab.errors import ConfigError, first_line
from mambavision_lab.files import list_choices

# Option of some choices of a group -> which those are.
_OF_SOME = {"export.quantize": "8 bits are for export=onnx, export=ort and export=web"}


def one_line(error: Exception, composed: DictConfig | None) -> str:
    """Explain in one line an error that was raised while composing or resolving a config.

    Args:
        error: What Hydra, OmegaConf or a resolver raised.
        composed: The config without the user's overrides, which holds the names to suggest.
    """
    chain = list(_chain(error))
    for cause in chain:  # also when the missing value is met while another refers to it
        if missing := re.search(r"[Mm]issing mandatory value: (\S+)", str(cause)):
            key = missing[1]
            if isinstance(cause, MissingMandatoryValue) and cause.full_key:
                key = cause.full_key
            return f"{key} is missing; give {key}=VALUE"
    for cause in chain:
        if isinstance(cause, ConfigError):
            return str(cause)
    for cause in chain:
        if isinstance(cause, ConfigAttributeError | ConfigKeyError):
            return _unknown_key(_full_key(cause), composed)
        if isinstance(cause, MissingConfigException):
            group, _, option = (cause.missing_cfg_file or "").rpartition("/")
            top, _, folder = group.partition("/")
            if folder and top != "hydra":  # as nvidia/mambavision_t of model
                option = f"{folder}/{option}"
                return f"{top}={option}: no such choice; {suggest(option, list_choices(top))}"
            if choices := cause.options or (list_choices(group) if group else None):
                return f"{group}={option}: no such choice; {suggest(option, choices)}"
        if isinstance(cause, OmegaConfBaseException):
            key, text = _full_key(cause), first_line(cause)
            if key and "is not a ListConfig" in text:
                return f"{key}: wanted a list; give {key}=[VALUE,...]"
            return f"{key}: {text}" if key else text
    if several := re.match(r"Multiple values for (\S+)\. .*: (\S+)'", str(error)):
        group, choice = several.groups()
        return (
            f"+{group}={choice}: {group} has a choice already; give {group}={choice} without the +"
        )
    if present := re.match(
        r"Could not append to config\. An item is already at '(\S+)'", str(error)
    ):
        return f"+{present[1]}: is in the config already; give {present[1]}=VALUE without the +"
    return first_line(error)


def with_meaning(error: ConfigError, cfg: DictConfig) -> ConfigError:
    """Add to a message that begins with an option what that option means, where that is written down."""
    message = str(error)
    option = re.match(r"[a-z_]\w*(?:\.\w+)*(?=[=:])", message)
    meaning = meaning_of(option[0], cfg) if option else None
    if option is None or meaning is None:
        return error
    name = option[0].rpartition(".")[2]
    if meaning[1:2].islower():  # no abbreviation
        meaning = meaning[0].lower() + meaning[1:]
    return ConfigError(f"{message} ({name}: {meaning})")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _full_key(error: OmegaConfBaseException) -> str:
    return str(error.full_key or error.key or "")


def _unknown_key(key: str, composed: DictConfig | None) -> str:
    if key in OPTIONS:
        return f"{key}: no such option; it is called {OPTIONS[key]} now"
    if key in _OF_SOME:
        return f"{key}: no such option here; {_OF_SOME[key]}"
    parent, _, name = key.rpartition(".")
    node = composed
    for part in filter(None, parent.split(".")):
        node = node.get(part) if isinstance(node, DictConfig) else None
    if not isinstance(node, DictConfig):
        return f"{key}: no such option"
    known = {str(k) for k in node if k != "_target_"}
    target = node.get("_target_")
    signature = read_signature(target) if target else None
    if signature is not None:
        if name in signature.parameters:
            return f"{key}: not in the config yet; add it with +{key}=VALUE"
        known |= set(signature.parameters)
    return f"{key}: no such option; {suggest(name, known)}"
