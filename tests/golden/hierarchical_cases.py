"""The cases of hierarchical.npz: networks and images by rule, as hierarchical.json says.

Run from the repository's root to print how far we are from the published network, with the largest
deviation of each array: python tests/golden/hierarchical_cases.py [backend ...]
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

try:
    from golden.make_plain_toy import by_rule
except ModuleNotFoundError:  # run as a script
    from make_plain_toy import by_rule

from mambavision_lab.models.create import create_mambavision
from mambavision_lab.models.hierarchical import MambaVision

FOLDER = Path(__file__).parent
GOLDEN = json.loads((FOLDER / "hierarchical.json").read_text())
CASES = GOLDEN["cases"]
MICRO = [case for case in CASES if case.startswith("micro")]
ARRAYS = np.load(FOLDER / "hierarchical.npz")


def make_net(case, **options):
    """Build a case's network with its weights by rule, in evaluation mode."""
    settings = CASES[case]
    if "variant" in settings:
        net = create_mambavision(f"nvidia/mambavision_{settings['variant'].lower()}", **options)
    else:
        net = MambaVision(**{**settings["config"], **options})
    net.load_state_dict({key: by_rule(key, x.shape) for key, x in net.state_dict().items()})
    return net.eval()


def make_images(case):
    """Return a case's images."""
    random = np.random.RandomState(GOLDEN["image_seed"])
    return torch.from_numpy(random.standard_normal(CASES[case]["input_shape"])).float()


def outputs(net, images):
    """Return every array that the golden file may hold."""
    arrays = {"patch_embed": net.patch_embed(images)}
    arrays |= {f"stage{i}": x for i, x in enumerate(net.forward_stages(images), start=1)}
    arrays["pooled"] = net.norm(arrays["stage4"]).mean(dim=(2, 3))
    arrays["logits"] = net(images)
    return arrays


def deviations(case, net):
    """Yield (array, largest absolute deviation), then the gradients' relative to their norms."""
    images = make_images(case)
    settings = CASES[case]
    with torch.set_grad_enabled("labels" in settings):
        found = outputs(net, images)
    for name, x in found.items():
        if f"{case}/{name}" in ARRAYS:
            expected = torch.from_numpy(ARRAYS[f"{case}/{name}"])
            yield name, (x.detach() - expected).abs().max().item()
    if "labels" in settings:
        loss = F.cross_entropy(found["logits"], torch.tensor(settings["labels"]))
        loss.backward()
        yield "loss", abs(loss.item() - settings["loss"])
        grads = {name: parameter.grad for name, parameter in net.named_parameters()}
        assert set(grads) == set(settings["grad_norm_and_sum"])
        relative = [
            (
                abs(grads[name].norm().item() - norm) / norm,
                abs(grads[name].sum().item() - total) / norm,
            )
            for name, (norm, total) in settings["grad_norm_and_sum"].items()
        ]
        norms, sums = (max(column) for column in zip(*relative, strict=True))
        yield from (("grad norms, relative", norms), ("grad sums / norms", sums))


def main():
    """Print the table."""
    names = [name for name, _ in deviations(MICRO[0], make_net(MICRO[0]))]
    print("| case | backend | " + " | ".join(names) + " |\n|---|---" + "|---:" * len(names) + "|")
    for backend in sys.argv[1:] or ["auto", "reference"]:
        for case in CASES:
            found = dict(deviations(case, make_net(case, scan_backend=backend)))
            cells = [f"{found[name]:.1e}" if name in found else "" for name in names]
            print(f"| {case} | {backend} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
