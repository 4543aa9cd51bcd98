"""The interface of a sweep's strategy: which jobs to run next, given the results of the earlier ones.

A strategy is a class with these two methods, beside this file, and a YAML in `configs/sweep/` whose
`search` node names it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hydra.core.override_parser.types import Override


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        number: Its number, which names its folder.
        overrides: Its own command.
        files: Content of files to put into its folder before it starts, by name.
    """

    number: int
    overrides: list[str]
    files: dict[str, str] = field(default_factory=dict)


class Search(Protocol):
    """A strategy; its constructor takes the settings of `sweep.search`."""

    @staticmethod
    def probes(parsed: Sequence[Override]) -> Iterator[list[str]]:
        """Yield overrides of jobs that stand for all that the search may try, to be checked first.

        Raises:
            ConfigError: The search cannot handle these overrides.
        """

    def batches(
        self,
        parsed: Sequence[Override],
        folder: Path,
        records: dict[int, dict[str, Any]],
        *,
        minimize: bool,
    ) -> Iterator[list[Job]]:
        """Yield lists of jobs to run; those of one list may run side by side.

        A job of an interrupted sweep that was not finished is yielded again, under its number.

        Args:
            parsed: The command's overrides.
            folder: The sweep's folder.
            records: Content of each job's `job.json` by its number; updated between two lists.
            minimize: Whether a lower value of the metric is better.
        """


def text_of(override: Override) -> str:
    """Return an override as it was typed; unlike Hydra's own, this also works for a deletion."""
    assert override.input_line is not None
    return override.input_line
