"""Seconds, and what to make of many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median, quantiles
from time import perf_counter

__all__ = ["median", "percentile", "seconds"]


def seconds(function: Callable[[], object]) -> float:
    """Return how long a call takes."""
    started = perf_counter()
    function()
    return perf_counter() - started


def percentile(values: Sequence[float], percent: int) -> float:
    """Return the value that so many percent of the values are not above."""
    return quantiles(values, n=100, method="inclusive")[percent - 1]
