"""The rows that the measurements work with."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import F

from benchmarks.models import Row

_TEXT = "Some words about this article, as long as such texts are in a shop that sells a little of everything. "


def values(number: int) -> dict[str, Any]:
    """Return the values of the row with this number."""
    return {
        "code": f"article-{number:08d}",
        "name": f"An article with the number {number}",
        "email": f"supplier-{number % 500}@example.com",
        "description": f"{number}: {_TEXT * 2}",
        "quantity": number,
        "price": Decimal(number % 100_000) / 100,
        "weight": number / 7,
        "active": number % 3 > 0,
        "day": date(2026, 1, 1) + timedelta(days=number % 365),
    }


def add_rows(count: int) -> None:
    """Fill LOCAL without logging anything."""
    Row.objects.bulk_create((Row(**values(number)) for number in range(1, count + 1)), batch_size=1000)


def change_rows() -> None:
    """Give each row of LOCAL values that it never had, without logging it."""
    Row.objects.update(quantity=F("quantity") + 1_000_000)
