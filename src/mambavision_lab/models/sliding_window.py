"""Predict masks of images and volumes of any size, window by window as a network was trained.

Source: the weights of a window's pixels as in Isensee et al. 2021, doi:10.1038/s41592-020-01008-z.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from mambavision_lab.data.mask_files import RESIZE, resize_image
from mambavision_lab.data.preparation import Preparation

_SPREAD = 1 / 8  # standard deviation of the weights, as a share of a window's side


def predict_windows(
    predict: Callable[[Tensor], Tensor],
    image: Tensor,
    window: Sequence[int],
    *,
    overlap: float = 0.5,
    batch_size: int = 4,
) -> Tensor:
    """Return the probabilities of each pixel's classes, (num_classes, H, W); of a volume likewise.

    Windows overlap and count most in their middle, where a network sees all around a pixel. An image smaller
    than a window is mirrored, or where it is too small for that repeated, at its end.

    Args:
        predict: Maps windows (N, C, H, W) to logits (N, num_classes, H, W).
        image: Normalised, (C, H, W) or (C, D, H, W).
        window: Its sides.
        overlap: Share of a window's side that the next one repeats.
        batch_size: Windows that are predicted at once.

    Raises:
        ValueError: overlap is not at least 0 and below 1.
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap={overlap}: wanted at least 0 and below 1")
    sides = image.shape[1:]
    padded = _enlarge(image, window)
    starts = [
        _starts(own, side, overlap) for own, side in zip(padded.shape[1:], window, strict=True)
    ]
    places = [
        (slice(None), *(slice(s, s + side) for s, side in zip(start, window, strict=True)))
        for start in product(*starts)
    ]
    weights = _weights(window).to(image.device)
    total = torch.zeros(1, *padded.shape[1:], device=image.device)
    summed: Tensor | None = None
    for chunk in _chunks(places, batch_size):
        windows = torch.stack([padded[place] for place in chunk])
        shares = predict(windows).float().softmax(dim=1)
        if summed is None:
            summed = shares.new_zeros(shares.shape[1], *padded.shape[1:])
        for place, share in zip(chunk, shares, strict=True):
            summed[place] += weights * share
            total[place] += weights
    assert summed is not None
    own = (slice(None), *(slice(side) for side in sides))
    return (summed / total)[own]


def segment(
    net: Callable[[Tensor], Tensor],
    preparation: Preparation,
    pixels: Tensor,
    as_input: Callable[[Tensor], Tensor],
    overlap: float = 0.5,
) -> Tensor:
    """Return the class of each pixel of an image of any size, (H, W), on the CPU; of a volume likewise.

    Args:
        net: Gives logits (N, num_classes, H, W).
        preparation: Of the images that it was trained on: whole ones that were resized, or windows.
        pixels: The image as it was read, uint8 (C, H, W) or (C, D, H, W).
        as_input: Normalises pixels (N, C, H, W) and brings them to the network's device.
        overlap: As in `predict_windows`.
    """
    with torch.inference_mode():
        if preparation.fit != RESIZE:
            image = as_input(pixels[None])[0]
            return (
                predict_windows(net, image, preparation.sides, overlap=overlap).max(0).indices.cpu()
            )
        logits = net(as_input(resize_image(pixels, preparation.sides)[None])).float()
        mode = "bilinear" if logits.ndim == 4 else "trilinear"
        return F.interpolate(logits, list(pixels.shape[1:]), mode=mode)[0].max(0).indices.cpu()


def _enlarge(image: Tensor, window: Sequence[int]) -> Tensor:
    missing = [max(0, side - own) for side, own in zip(window, image.shape[1:], strict=True)]
    if not any(missing):
        return image
    fits = all(m < own for m, own in zip(missing, image.shape[1:], strict=True))
    pads = [pad for m in reversed(missing) for pad in (0, m)]
    return F.pad(image[None], pads, mode="reflect" if fits else "replicate")[0]


def _starts(side: int, window: int, overlap: float) -> list[int]:
    """Return where windows begin along an axis: evenly spaced, the last ends with the image."""
    step = max(1, int(window * (1 - overlap)))
    num = 1 + -(-(side - window) // step)
    return torch.linspace(0, side - window, num).round().long().tolist()


def _weights(window: Sequence[int]) -> Tensor:
    """Return a Gaussian over a window's pixels, 1 in the middle."""
    weights = torch.ones(())
    for side in window:
        offsets = (torch.arange(side) - (side - 1) / 2) / (_SPREAD * side)
        weights = weights[..., None] * (-0.5 * offsets.square()).exp()
    return weights.clamp_min(1e-3)


def _chunks(places: list[tuple[slice, ...]], size: int) -> Iterator[list[tuple[slice, ...]]]:
    for start in range(0, len(places), size):
        yield places[start : start + size]
