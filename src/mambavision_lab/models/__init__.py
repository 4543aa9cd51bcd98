"""Networks, one file per family; each maps images (N, C, H, W) to logits (N, num_classes)."""
