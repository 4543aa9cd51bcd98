"""Options of one small network of each family, with Mamba and attention blocks."""

TOY_OPTIONS = {
    "num_classes": 3,
    "in_chans": 2,
    "image_size": 16,
    "patch_size": 4,
    "stem_dim": 4,
    "embed_dim": 8,
    "depth": 2,
    "num_heads": 2,
    "mlp_ratio": 2,
    "d_state": 4,
}
HIERARCHICAL_TOY = {
    "dim": 4,
    "in_dim": 4,
    "depths": (1, 1, 3, 2),
    "num_heads": (1, 1, 2, 4),
    "window_size": (8, 8, 4, 2),
    "mlp_ratio": 2,
    "num_classes": 3,
}
