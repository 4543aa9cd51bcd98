"""Networks, one file per family; each maps images (N, C, H, W) to logits (N, num_classes)."""

import sys

if "timm" in sys.modules:  # to import it takes seconds, which is for those who use it
    from mambavision_lab.models import timm_registry  # noqa: F401
