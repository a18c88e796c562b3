"""Moments, whatever time zone they are told in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.db import connections


def in_utc(value: Any) -> Any:
    """Return a value with its moments in UTC, also those in a list or a range.

    Where a zone has an hour twice, Python calls two different moments of it equal, and none of them equal to the same
    moment in another zone.
    """
    if isinstance(value, datetime):
        try:
            return value.astimezone(UTC) if value.tzinfo else value
        except OverflowError:  # in the first or the last hours of the calendar
            return value
    if isinstance(value, list):
        return [in_utc(each) for each in value]
    if hasattr(value, "lower_inc"):  # a range of PostgreSQL
        return in_utc(value.lower), in_utc(value.upper), value.lower_inc, value.upper_inc, value.isempty
    return value


def are_in_utc(*aliases: str) -> bool:
    """Tell whether databases return all moments in UTC, or in no time zone at all."""
    return all(connections[alias].timezone in (None, UTC) for alias in aliases)
