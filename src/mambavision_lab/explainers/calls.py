"""What a network's attention and scans were given in one forward pass."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from mambavision_lab.errors import ConfigError
from mambavision_lab.explainers.tokens import TokenLayout
from mambavision_lab.layers.mixer import MambaVisionMixer


@dataclass(frozen=True)
class AttentionCall:
    """One call of attention.

    Attributes:
        name: Module that called it.
        layout: Where its tokens lie; None where that is not known.
        query, key: (sequences, heads, length, head_dim).
        mask: Added to the scores, or None.
        scale: Of the scores.
    """

    name: str
    layout: TokenLayout | None
    query: Tensor
    key: Tensor
    mask: Tensor | None
    scale: float

    def weights(self) -> Tensor:
        """Return softmax(scale query key' + mask), (sequences, heads, length, length)."""
        scores = self.query @ self.key.transpose(-2, -1) * self.scale
        return (scores if self.mask is None else scores + self.mask).softmax(dim=-1)


@dataclass(frozen=True)
class ScanCall:
    """The scan or the two scans (forward and reverse) of one mixer.

    Attributes:
        name: The mixer.
        mixer: The module itself.
        layout: Where its tokens lie; None where that is not known.
        x: What the mixer was given, (sequences, length, dim).
        arguments: Of each call of `mixer.scan`: its positional ones, (u, delta, A, B, C, D), and keywords.
    """

    name: str
    mixer: MambaVisionMixer
    layout: TokenLayout | None
    x: Tensor
    arguments: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = ()


Call = AttentionCall | ScanCall


@dataclass(frozen=True)
class Record:
    """What a forward pass did.

    Attributes:
        logits: (1, num_classes).
        calls: Of attention and scan, in order.
    """

    logits: Tensor
    calls: tuple[Call, ...]

    @property
    def attention(self) -> list[AttentionCall]:
        """The calls of attention."""
        return [call for call in self.calls if isinstance(call, AttentionCall)]

    @property
    def scans(self) -> list[ScanCall]:
        """The mixers that scanned."""
        return [call for call in self.calls if isinstance(call, ScanCall)]


def require_layout(call: Call) -> TokenLayout:
    """Return where the tokens of a call lie.

    Raises:
        ConfigError: It is not known.
    """
    if call.layout is None:
        raise ConfigError(
            f"{call.name}: where its tokens lie in the image is not known (they are neither those of our "
            "networks nor one sequence of all patches); choose gradcam, or another of its kind"
        )
    return call.layout
