"""Load weights that somebody trained into a network: from a file, a folder or the Hugging Face hub.

Nothing pickled in a file is run. The network has its own copy of the weights, and while it is made no
second one stands in memory: a file is mapped, copied a part at a time, and unmapped after each, because
pages that were read count as memory in use. (Parameters that stay mapped, as after `load_state_dict(assign=
True)`, change or end the process when a training run overwrites the file that they came from.)
"""

import logging

import torch
from torch import Tensor

from mambavision_lab.errors import ConfigError
from mambavision_lab.models.backbone import Backbone
from mambavision_lab.models.weights_file import (
    among,
    find_weights,
    is_mappable,
    only,
    places_at,
    places_of,
    read_tensors,
    some,
    verify_weights,
)

log = logging.getLogger(__name__)

_OTHER_MODEL = "choose the model that it was made for (of a pruned run: from_run=RUN)"
# Where Lightning averages weights, its state_dict holds the average, and this the others.
_NOT_AVERAGED = "current_model_state."
_PART = 2**26  # bytes; the peak of memory is the weights and a part of this size


@torch.no_grad()
def load_pretrained(net: Backbone, source: str, key: str | None = None) -> None:
    """Load weights into a network; a head for another number of classes keeps its fresh weights.

    They are found by the network's own names, however deep they lie in the file.

    Args:
        net: The network, of either family, in memory.
        source: A file, a folder that holds one, or an id on the Hugging Face hub.
        key: Where in the file they lie, such as "model_ema"; None where one place alone fits.

    Raises:
        ConfigError: There is nothing to load, it is damaged, it fits another network, or several fit.
    """
    path = find_weights(source)
    verify_weights(path, source)
    own = net.state_dict()
    remaining = list(own)
    prefix = None
    while remaining:
        tensors = read_tensors(path, source)
        if prefix is None:
            prefix = _find(net, tensors, source, key)
        state, other_head = _entries(net, tensors, prefix)
        if other_head and len(remaining) == len(own):
            log.warning("pretrained=%s: %s; the head starts afresh", source, other_head)
        num_bytes = 0
        while remaining and (num_bytes < _PART or not is_mappable(path)):
            x = own[name := remaining.pop()]
            x.copy_(state[name])
            num_bytes += x.nbytes
            if not all(map(torch.isfinite, x.aminmax())):  # x.isfinite() would need a copy
                raise ConfigError(
                    f"pretrained={source}: {name} holds values that are not finite; choose other weights"
                )
        del tensors, state  # unmapped


def _find(net: Backbone, tensors: dict[str, Tensor], source: str, key: str | None) -> str:
    """Find the one place where weights of this network lie; returns what stands in front of their names."""
    own = net.state_dict()
    anchor = next(iter(own))
    prefixes = places_of(anchor, tensors)
    if not prefixes:
        raise ConfigError(
            f"pretrained={source}: these are no weights of {type(net).__name__}: {anchor!r} is not "
            f"{among(list(tensors))}; {_OTHER_MODEL}"
        )
    prefixes = places_at(prefixes, source, key)
    misfits = {prefix: _misfit(net, _entries(net, tensors, prefix)[0]) for prefix in prefixes}
    fitting = [prefix for prefix in prefixes if not misfits[prefix]]
    if not fitting:
        nearest = max(prefixes, key=lambda prefix: sum(prefix + name in tensors for name in own))
        raise ConfigError(
            f"pretrained={source}: does not fit the network: {misfits[nearest]}; {_OTHER_MODEL}"
        )
    if key is None:
        fitting = [prefix for prefix in fitting if not prefix.startswith(_NOT_AVERAGED)] or fitting
    return only(fitting, source)


def _entries(
    net: Backbone, tensors: dict[str, Tensor], prefix: str
) -> tuple[dict[str, Tensor], str]:
    """Take the network's own entries, with a head of its size; returns how the head differed, too."""
    parts = {name.partition(".")[0] for name in net.state_dict()} | {"head"}
    named = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
    state = {key: x for key, x in named.items() if key.partition(".")[0] in parts}
    net.fit_state_dict(state)
    return state, _leave_out_other_head(net, state)


def _leave_out_other_head(net: Backbone, state: dict[str, Tensor]) -> str:
    """Replace a head for other classes by the network's own; returns the difference, if it matters."""
    own = {key: x for key, x in net.state_dict().items() if key.startswith("head.")}
    loaded = {key: state[key] for key in [*state] if key.startswith("head.")}
    if {k: x.shape for k, x in own.items()} == {k: x.shape for k, x in loaded.items()}:
        return ""
    for key in loaded:
        del state[key]
    state.update(own)
    count = len(loaded["head.weight"]) if "head.weight" in loaded else "no"
    return f"it has {count} classes, this network {net.num_classes}" if net.num_classes else ""


def _misfit(net: Backbone, state: dict[str, Tensor]) -> str:
    """Say what keeps these entries from being the network's; nothing if they are."""
    own = net.state_dict()
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = {
        "missing": [key for key in own if key not in state],
        "unknown": [key for key in state if key not in own],
        "of another shape": shapes,
    }
    if found := [f"{len(keys)} {what} ({some(keys)})" for what, keys in problems.items() if keys]:
        conv = next(key for key in own if key.endswith(".0.weight"))  # the first one
        loaded = state.get(conv, own[conv])
        if loaded.ndim == 4 and loaded.shape[1] != own[conv].shape[1]:
            found.append(f"it takes {loaded.shape[1]} channels: data.in_chans={loaded.shape[1]}")
    return "; ".join(found)
