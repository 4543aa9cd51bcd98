"""What a part of the fault injection has found."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """How often a promise was tried, and how often it held.

    Attributes:
        name: The promise.
        tried: Number of attempts.
        held: Number of attempts in which it held.
        detail: The first failure, with what reproduces it; where there is none, a measurement.
    """

    name: str
    tried: int
    held: int
    detail: str = ""


def count_held(name: str, results: "list[str | None]", detail: str = "") -> Outcome:
    """Make an outcome from attempts, each None where the promise held or what happened instead.

    Args:
        name: The promise.
        results: One for each attempt.
        detail: What to say where it always held.
    """
    failures = [result for result in results if result is not None]
    return Outcome(name, len(results), len(results) - len(failures), (failures or [detail])[0])
