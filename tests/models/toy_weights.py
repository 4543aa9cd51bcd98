"""A toy of the hierarchical family, and its weights in other files' layouts."""

import torch
from toys import HIERARCHICAL_TOY

from mambavision_lab.models.hierarchical import MambaVision


def make_toy(**options):
    return MambaVision(**{**HIERARCHICAL_TOY, **options})


def with_prefix(state, prefix):
    return {prefix + key: x for key, x in state.items()}


def assert_same(actual, expected, *, but=()):
    expected = expected.state_dict()
    for key, x in actual.state_dict().items():
        if not key.startswith(but or "-"):
            assert torch.equal(x, expected[key]), key
