"""What a method is given: a network, an image and a class, and what several methods need of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from torch import Tensor, nn

from mambavision_lab.errors import ConfigError
from mambavision_lab.explainers.calls import AttentionCall, Call, Record, ScanCall
from mambavision_lab.explainers.record import record

_C = TypeVar("_C", bound=Call)


@dataclass(frozen=True, eq=False)
class Subject:
    """The answer of a network to an image.

    Attributes:
        net: In evaluation mode.
        image: Normalised, (1, C, H, W); a volume or clip (1, C, D, H, W).
        target: The class to explain.
    """

    net: nn.Module
    image: Tensor
    target: int

    @cached_property
    def record(self) -> Record:
        """What attention and scans were given; the network runs once for all methods that ask.

        Raises:
            ConfigError: The network gives values that are not finite.
        """
        return record(self.net, self.image)

    def attention(self, method: str) -> Sequence[AttentionCall]:
        """Return the calls of attention, for a method.

        Raises:
            ConfigError: There are none.
        """
        other = "scan" if self.record.scans else "eigencam"
        calls, lacks = self.record.attention, "no attention blocks that can be read"
        return self._require(calls, method, lacks, other)

    def scans(self, method: str) -> Sequence[ScanCall]:
        """Return the mixers that scanned, for a method.

        Raises:
            ConfigError: There are none.
        """
        other = "attention" if self.record.attention else "eigencam"
        return self._require(self.record.scans, method, "no Mamba blocks", other)

    def blocks(self, method: str) -> Sequence[Call]:
        """Return the calls of both kinds in order, for a method.

        Raises:
            ConfigError: There are none.
        """
        what = "no attention and no Mamba blocks that can be read"
        return self._require(self.record.calls, method, what, "eigencam")

    def _require(self, calls: Sequence[_C], method: str, lacks: str, other: str) -> Sequence[_C]:
        if not calls:
            raise ConfigError(
                f"method={method}: {type(self.net).__name__} has {lacks}; choose {other} or gradcam"
            )
        return calls
