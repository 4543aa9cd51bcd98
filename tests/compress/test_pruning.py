"""Pruned networks compute what the channels that stay compute, and are ordinary networks."""

import pytest
import torch
from toys import HIERARCHICAL_TOY, TOY_OPTIONS

from mambavision_lab.compress.channels import find_groups
from mambavision_lab.compress.pruning import Pruning, channel_costs, magnitude
from mambavision_lab.models.hierarchical import MambaVision
from mambavision_lab.models.macs import count_macs
from mambavision_lab.models.plain import PlainMambaVision

PLAIN = {
    **TOY_OPTIONS,
    "stem_dim": 16,
    "embed_dim": 32,
    "num_heads": 4,
    "mlp_ratio": 3,
    "in_chans": 3,
}
HIERARCHICAL = {**HIERARCHICAL_TOY, "dim": 16, "num_heads": (1, 1, 2, 4)}


def make_trained(family, options):
    """Make a network whose weights, running means and step sizes are all different from each other."""
    net = family(**options)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            torch.nn.init.uniform_(tensor, 0.5 if "running_var" in name else -0.5, 1.0)
    return net.eval()


@pytest.mark.parametrize(
    ("family", "options", "scope", "score"),
    [
        (PlainMambaVision, PLAIN, "global", "taylor"),
        (MambaVision, HIERARCHICAL, "layer", "magnitude"),
        pytest.param(PlainMambaVision, PLAIN, "layer", "magnitude", marks=pytest.mark.slow),
        pytest.param(MambaVision, HIERARCHICAL, "global", "taylor", marks=pytest.mark.slow),
    ],
)
def test_pruned_network_is_small_and_computes_without_channels_that_were_zero(
    family, options, scope, score
):
    net = make_trained(family, options)
    images = torch.rand(2, 3, 16, 16)

    def make(widths):
        return family(**options, widths=widths)

    def losses():
        yield net(images).pow(2).mean()

    pruning = Pruning(source="run", macs=0.9, score=score, scope=scope)
    # Channels that nothing reads have no score, so they go first: what is left computes the same.
    groups, tensors = find_groups(net), dict(net.state_dict())
    for group in groups:
        for (name, axis), rows in group.rows.items():
            if axis == 1:
                kept = group.multiple * group.per_width
                tensors[f"{group.layer}.{name}"].index_fill_(1, rows[kept:].flatten(), 0)
    small, widths = pruning.prune(net, make, 16, 3, losses)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())
    assert set(widths) == {group.layer for group in groups}
    assert all(widths[g.layer] % g.multiple == 0 or widths[g.layer] == g.width for g in groups)
    with torch.no_grad():
        assert (small(images) - net(images)).abs().max() <= 1e-5 * net(images).abs().max()
    again = family(**options, widths=widths)
    again.eval().load_state_dict(small.state_dict())
    assert again(images).equal(small(images))


def test_magnitude_is_the_norm_of_what_makes_times_what_reads():
    net = PlainMambaVision(**PLAIN)
    (group,) = (g for g in find_groups(net) if g.layer == "blocks.0.mlp")
    score = magnitude(group, dict(net.state_dict()))
    mlp = net.blocks[0].mlp
    expected = mlp.fc1.weight.norm(dim=1) * mlp.fc2.weight.norm(dim=0)
    torch.testing.assert_close(score, expected.detach() / expected.mean().item())


def test_channels_are_compared_by_their_score_for_each_multiply_accumulate():
    net = PlainMambaVision(**PLAIN)
    groups = find_groups(net)

    def count(widths):
        with torch.device("meta"):
            return count_macs(PlainMambaVision(**PLAIN, widths=widths), 16).layers

    costs = channel_costs(groups, count)
    tokens = 16  # patches of 4 x 4 pixels
    assert costs["blocks.0.mlp"] == 2 * 32 * tokens
    # A head of 8: its queries, keys and values are made of 32 channels, and read into as many.
    assert costs["blocks.1.mixer"] == 4 * 8 * 32 * tokens
    assert costs["stem"] > costs["blocks.0.mlp"]


def test_pruning_refuses_what_cannot_be_done(refusal):
    assert "above 0 and below 1" in refusal(lambda: Pruning(source="run", macs=1.0))
    assert "wanted magnitude or taylor" in refusal(
        lambda: Pruning(source="run", macs=0.5, score="x")
    )
    net = PlainMambaVision(**PLAIN)
    pruning = Pruning(source="run", macs=0.05, score="magnitude")
    message = refusal(
        lambda: pruning.prune(net, lambda w: PlainMambaVision(**PLAIN, widths=w), 16, 3)
    )
    assert "keep their width" in message
    other = torch.nn.Linear(2, 2)
    assert "no layer that can be pruned" in refusal(lambda: pruning.prune(other, None, 16, 3))
    with pytest.raises(ValueError, match="no layer with a width"):
        PlainMambaVision(**PLAIN, widths={"blocks.7.mlp": 8})
