"""Find the parameters of a network's first stages, and put parts that do not train into evaluation mode.

Networks are ours or timm's: both state their stages by `group_matcher` and their head by `get_classifier`.
"""

from collections.abc import Iterable
from typing import Any

from torch import nn


def first_parameters(net: nn.Module, num_stages: int | None) -> dict[str, nn.Parameter]:
    """Return the parameters of the stem and the first stages, or of all but the head, by name.

    Args:
        net: A network.
        num_stages: How many stages (blocks where there are none) beside the stem; None is all but the head.

    Raises:
        ValueError: The network has no head, or not as many stages.
    """
    given, name = f"num_stages={num_stages}", type(net).__name__
    anything: Any = net
    named = dict(net.named_parameters())
    if num_stages is None:
        heads = anything.get_classifier() if hasattr(net, "get_classifier") else None
        heads = heads if isinstance(heads, tuple | list) else [heads]
        in_head = {id(p) for head in heads if head is not None for p in head.parameters()}
        if not in_head:
            raise ValueError(f"{given}: {name} does not say which part is its head")
        return {key: p for key, p in named.items() if id(p) not in in_head}
    if not hasattr(net, "group_matcher"):
        raise ValueError(f"{given}: {name} does not say what its stages are")
    from timm.models import group_parameters  # takes seconds to import

    matcher = anything.group_matcher(coarse=True)
    if isinstance(matcher.get("blocks"), list):
        # What timm counts to the last stage, such as the final norm, lies behind the stages.
        matcher["blocks"] = [(p, mark) for p, mark in matcher["blocks"] if mark != (99999,)]
    groups = group_parameters(net, matcher, reverse=True)
    last = max(groups.values()) - 1  # the norm and the head are the last group
    if not 0 <= num_stages <= last:
        raise ValueError(f"{given}: {name} has 0 to {last}, or null for all but the head")
    return {key: named[key] for key, group in groups.items() if group <= num_stages}


def evaluate_frozen(module: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Put the largest parts that hold none of the trained parameters into evaluation mode.

    Their BatchNorms keep their statistics, and they drop nothing.
    """
    _evaluate(module, {id(p) for p in trained})


def _evaluate(module: nn.Module, trained: set[int]) -> None:
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(id(p) in trained for p in parameters):
            child.eval()
        else:
            _evaluate(child, trained)
