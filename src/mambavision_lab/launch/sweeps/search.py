"""What a sweep's strategy is asked: which jobs next, and what came of one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from hydra.core.override_parser.types import Override


@dataclass
class Job:
    """One run of a sweep: its number, which names its folder, and its overrides."""

    number: int
    overrides: list[str]


class Search(Protocol):
    """A strategy. The constructor takes the keys of its YAML in `configs/sweep/`."""

    resume: str | None

    @staticmethod
    def probes(parsed: Sequence[Override]) -> Iterator[list[str]]:
        """Overrides of jobs that stand for all that the search may try, to be checked first."""

    def batches(
        self, parsed: Sequence[Override], folder: Path, records: dict[int, dict[str, Any]]
    ) -> Iterator[list[Job]]:
        """Jobs to run, those of one list side by side where the launcher can.

        Args:
            parsed: The command's overrides.
            folder: The sweep's folder.
            records: What is known of each job by its number; updated between two lists.
        """


def fixed(override: Override) -> str:
    """An override as it is given to a job; unlike Hydra's own, it keeps a deletion one."""
    assert override.input_line is not None
    return override.input_line
