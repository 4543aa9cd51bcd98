"""Apply parts of a network to a long volume a slab at a time, in inference: equal to the whole at once.

What a layer computes on its way (wider channels, gates, the states of the scan) then takes the memory of a
slab; the tokens that go in and come out take that of the volume. From slab to slab a scan carries its state,
and a convolution sees the neighbours that its kernel reaches.
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from mambavision_lab.layers.block import Block
from mambavision_lab.layers.mixer import MambaVisionMixer
from mambavision_lab.layers.stem import ConvStem


def stem_in_slabs(stem: ConvStem, x: Tensor, slab_slices: int) -> Tensor:
    """Apply a stem to volumes (N, C, D, H, W), so many slices of tokens at a time.

    The stem is in evaluation mode: its BatchNorms in training see all of a volume.
    """
    strides = [layer.stride[0] for layer in stem if isinstance(layer, nn.Conv3d)]
    reach, patch = 0, 1  # of the stem's kernels to either side, in slices
    for stride in strides:
        reach, patch = reach + patch, patch * stride
    halo = -(-reach // patch)
    maps = []
    for start, end, before, after in _slabs(x.shape[2] // patch, slab_slices, halo):
        part = stem(x[:, :, (start - before) * patch : (end + after) * patch])
        maps.append(part[:, :, before : before + end - start])
    return torch.cat(maps, dim=2)


def run_in_slabs(blocks: Iterable[nn.Module], x: Tensor, slab_length: int) -> Tensor:
    """Apply blocks to tokens x, (batch, length, dim), so many tokens at a time.

    Blocks of attention, and of a scan in both directions, see all tokens at once.
    """
    for block in blocks:
        assert isinstance(block, Block)
        mixer = block.mixer
        if isinstance(mixer, MambaVisionMixer) and not mixer.bidirectional:
            x = _run_block(block, mixer, x, slab_length)
        else:
            x = block(x)
    return x


def _run_block(block: Block, mixer: MambaVisionMixer, x: Tensor, slab_length: int) -> Tensor:
    y, state = torch.empty_like(x), None
    for start, end, before, after in _slabs(x.shape[1], slab_length, mixer.reach):
        part = block.norm1(x[:, start - before : end + after])
        branch, state = mixer.forward_slab(part, state, before, after)
        y[:, start:end] = block.add_branches(x[:, start:end], branch)
    return y


def _slabs(length: int, slab: int, halo: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield where each slab starts and ends, and how much of its neighbours there is before and after."""
    for start in range(0, length, slab):
        end = min(start + slab, length)
        yield start, end, min(halo, start), min(halo, length - end)
