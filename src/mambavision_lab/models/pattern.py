"""Choose the blocks of a stack that mix with Mamba; the others mix with attention."""

from typing import Literal

Pattern = Literal["alternating", "mamba_first"]


def mamba_blocks(depth: int, mamba_ratio: float | None, pattern: Pattern) -> list[bool]:
    """Return for each block whether it mixes with Mamba; round(mamba_ratio * depth) of them do.

    A ratio of None is half of them, rounded up, as in the published networks.

    Raises:
        ValueError: mamba_ratio is outside 0 ... 1, or the pattern is unknown.
    """
    if mamba_ratio is None:
        count = -(-depth // 2)
    elif isinstance(mamba_ratio, int | float) and 0 <= mamba_ratio <= 1:
        count = round(mamba_ratio * depth)
    else:
        raise ValueError(f"mamba_ratio={mamba_ratio} must lie between 0 and 1")
    if pattern == "mamba_first":
        return [i < count for i in range(depth)]
    if pattern == "alternating":  # spread evenly, Mamba first
        return [-(-(i + 1) * count // depth) > -(-i * count // depth) for i in range(depth)]
    raise ValueError(f"pattern={pattern!r} is unknown; choose 'alternating' or 'mamba_first'")
