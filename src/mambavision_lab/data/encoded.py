"""An encoded image inside a larger file, such as a shard: what decoding asks of it."""

from abc import ABC, abstractmethod


class EncodedImage(ABC):
    """An image that is read like an open file, as a whole; its string names it in messages."""

    __slots__ = ()

    @property
    @abstractmethod
    def sources(self) -> tuple[str, ...]:
        """Return the files that it is in."""

    @abstractmethod
    def read(self) -> bytes:
        """Return its bytes."""

    @property
    def name(self) -> str:
        """Return its name in messages."""
        return str(self)

    def seekable(self) -> bool:
        """Return False: parts of it cannot be read."""
        return False
