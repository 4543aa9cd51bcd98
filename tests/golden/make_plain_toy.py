"""Write plain_toy.npz, the golden outputs of two toy networks of the plain family; see README.md.

Run from the repository's root: make golden
"""

import zlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mambavision_lab.models.plain import PlainMambaVision

FILE = Path(__file__).with_name("plain_toy.npz")
SIZES = {
    "num_classes": 5,
    "image_size": 16,
    "patch_size": 4,
    "stem_dim": 4,
    "embed_dim": 12,
    "depth": 4,
    "num_heads": 3,
    "mlp_ratio": 2,
    "d_state": 4,
}
# Case: what differs from SIZES, and the shape of its images.
CASES = {
    "alternating": ({}, (2, 3, 16, 16)),
    "mamba_first": (
        {"pattern": "mamba_first", "mamba_ratio": 0.75, "d_conv": 3, "expand": 1},
        (3, 3, 24, 12),  # the position embedding is interpolated
    ),
}


def main():
    """Compute every case in float64 with the reference scan and write it in float32."""
    arrays = {}
    for case in CASES:
        net = make_net(case, scan_backend="reference").double()
        for name, x in outputs(case, net).items():
            arrays[f"{case}/{name}"] = x.detach().float().numpy()
    np.savez_compressed(FILE, **arrays)


def make_net(case, **options):
    """Build a case's network with its weights by rule, in evaluation mode."""
    net = PlainMambaVision(**{**SIZES, **CASES[case][0], **options})
    net.load_state_dict({key: by_rule(key, x.shape) for key, x in net.state_dict().items()})
    return net.eval()


def outputs(case, net):
    """Return tokens, logits, loss, and the norm of each parameter's gradient, in order."""
    shape = CASES[case][1]
    images = torch.from_numpy(np.random.RandomState(0).standard_normal(shape)).float()
    tokens = net.forward_features(images.to(net.pos_embed.dtype))
    logits = net.forward_head(tokens)
    loss = F.cross_entropy(logits, torch.arange(shape[0]))
    grads = torch.autograd.grad(loss, list(net.parameters()))
    grad_norms = torch.stack([grad.norm() for grad in grads])
    return {"tokens": tokens, "logits": logits, "loss": loss, "grad_norms": grad_norms}


def by_rule(key, shape):
    """Return the values of a state-dict entry, which follow from its key and shape alone."""
    random = np.random.RandomState(zlib.crc32(key.encode()) % 2**32)
    r = torch.as_tensor(random.standard_normal(tuple(shape)), dtype=torch.float32)
    name = key.rpartition(".")[2]
    if name == "num_batches_tracked":
        return torch.zeros(shape, dtype=torch.int64)
    if name == "running_var":
        return 1 + 0.1 * r.abs()
    if name == "running_mean":
        return 0.1 * r
    if name == "A_log":
        return torch.log(torch.arange(1.0, shape[1] + 1)) + 0.1 * r
    if name == "D" or (name == "weight" and len(shape) == 1):
        return 1 + 0.1 * r
    if name.startswith("gamma"):
        return 0.5 + 0.1 * r
    if name == "bias":
        return -3 + 0.5 * r if key.endswith("dt_proj.bias") else 0.05 * r
    return r / np.prod(shape[1:]) ** 0.5


if __name__ == "__main__":
    main()
