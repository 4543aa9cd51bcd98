"""Try every combination of the values given."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.types import Override

from mambavision_lab.errors import ConfigError
from mambavision_lab.launch.sweeps.search import Job, text_of


class GridSearch:
    """Run one job per combination, the last key of the command changing fastest."""

    @staticmethod
    def probes(parsed: Sequence[Override]) -> Iterator[list[str]]:
        """Yield the overrides of all jobs."""
        for override in parsed:
            if override.is_sweep_override() and not override.is_discrete_sweep():
                raise ConfigError(
                    f"{override.input_line}: an interval has no list of values; add sweep=optuna, "
                    "or give values such as 1e-3,3e-4"
                )
        choices = [
            [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
            if o.is_sweep_override()
            else [text_of(o)]
            for o in parsed
        ]
        yield from ([*job] for job in itertools.product(*choices))

    def batches(
        self,
        parsed: Sequence[Override],
        folder: Path,
        records: dict[int, dict[str, Any]],
        *,
        minimize: bool,
    ) -> Iterator[list[Job]]:
        """Yield all jobs that are not done yet, at once."""
        jobs = [Job(number, overrides) for number, overrides in enumerate(self.probes(parsed))]
        yield [job for job in jobs if records.get(job.number, {}).get("status") != "done"]
