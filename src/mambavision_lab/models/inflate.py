"""Let weights of a network for images start one for volumes and clips.

A kernel of 3 x 3 becomes the middle slice of one of 3 x 3 x 3 whose other slices are zero, so that at first
each slice passes by itself: a volume of one slice, and one of equal slices, give what the image gives.
(Repeating the kernel, Carreira and Zisserman 2017, arXiv:1705.07750, is not exact at the outermost slices.)
"""

from torch import Tensor


def inflate_kernels(state_dict: dict[str, Tensor], own: dict[str, Tensor], prefix: str) -> None:
    """Inflate, in place, kernels of two axes to those of three; what does not fit stays as it is."""
    for name, kernel in own.items():
        loaded = state_dict.get(prefix + name)
        if loaded is None or kernel.ndim != 5 or loaded.ndim != 4:
            continue
        if loaded.shape != (*kernel.shape[:2], *kernel.shape[3:]):
            continue
        inflated = loaded.new_zeros(kernel.shape)
        inflated[:, :, kernel.shape[2] // 2] = loaded
        state_dict[prefix + name] = inflated
