"""Time contenders side by side: one round runs each of them once, so that all meet the same machine."""

import math
import statistics
import time
from collections.abc import Callable, Mapping


def interleave(
    contenders: Mapping[str, Callable[[], object]],
    num_rounds: int,
    num_warm_up: int = 1,
    enough_s: float = math.inf,
    settle_s: float = 0,
) -> dict[str, list[float]]:
    """Run every contender once a round.

    Args:
        contenders: Calls to time, by name.
        num_rounds: Rounds that count.
        num_warm_up: Rounds before them that do not.
        enough_s: A contender with three rounds that has run for this long is left out of the rest.
        settle_s: A contender faster than this runs once untimed before each timed run, so that it does
            not pay for the caches and the freed memory that its predecessor leaves.

    Returns:
        Seconds of each round, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(num_warm_up + num_rounds):
        for name, call in contenders.items():
            if len(seconds[name]) >= 3 and sum(seconds[name]) > enough_s:
                continue
            if seconds[name] and seconds[name][-1] < settle_s:
                call()
            start = time.perf_counter()
            call()
            if round_ >= num_warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ms(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return 1000 * statistics.median(seconds)
