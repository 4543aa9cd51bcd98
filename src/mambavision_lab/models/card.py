"""The model card that is saved beside a network: what it is, what it takes, its metrics and its licence."""

from typing import Any

from torch import nn

from mambavision_lab.data.preparation import Preparation
from mambavision_lab.metrics import format_metric

MODEL_CARD = """\
---
{{ card_data }}
---

# {{ name }}

{{ task }} ({{ network }}, {{ num_params }} parameters) trained with MambaVision Lab on {{ kind }} of
{{ size }} (channels, {{ axes }}).

```python
from mambavision_lab import MambaVisionInference

net = MambaVisionInference.from_pretrained("{{ repo_id | default("FOLDER OR HUB ID", true) }}")
{{ call }}
```
{% if metrics %}
## Metrics

| metric | value |
|---|---:|
{% for key, value in metrics.items() %}| {{ key }} | {{ value }} |
{% endfor %}{% endif %}
## Classes

{{ class_names | join(", ") if class_names else "The names of the classes are not known." }}

## Licence

State here under which licence you share these weights. If they started from weights that NVIDIA published
(`nvidia/MambaVision-...`), CC-BY-NC-SA 4.0 applies to them: not for commercial use.
"""


def card_values(
    net: nn.Module, description: dict[str, Any], preparation: Preparation
) -> dict[str, Any]:
    """Return what the template above asks for.

    Args:
        net: The network.
        description: All about it but its weights, as a checkpoint keeps it.
        preparation: Of its inputs.
    """
    noun, metrics = preparation.kind.noun, description.get("metrics") or {}
    if description.get("has_masks"):
        task, call = f"A segmentation of {noun}", 'net.segment("FILE")  # the class of each place'
    else:
        task = f"A classifier of {noun}"
        call = 'net.predict("FILE", top_k=5)  # [(class, probability), ...]'
    return {
        "name": description.get("name") or type(net).__name__,
        "task": task,
        "call": call,
        "network": type(net).__name__,
        "num_params": f"{sum(p.numel() for p in net.parameters()) / 1e6:.2f} M",
        "kind": noun,
        "axes": "height, width" if len(preparation.sides) == 2 else "slices, height, width",
        "size": " x ".join(map(str, (len(preparation.mean), *preparation.sides))),
        "metrics": {key: format_metric(key, value) for key, value in metrics.items()},
        "class_names": description.get("class_names") or [],
    }
