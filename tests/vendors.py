"""Choosing vendors for tests about what only some of them do."""

from __future__ import annotations

import pytest

from tests.databases import Pair


def marks(*vendors: str) -> list[pytest.MarkDecorator]:
    """Return the marks of a test that needs these vendors."""
    return [getattr(pytest.mark, vendor) for vendor in sorted({*vendors} - {"sqlite"})]


def only_on(*vendors: str) -> pytest.MarkDecorator:
    """Let ``each_vendor`` be only some of the vendors."""
    pairs = [pytest.param(Pair(f"{vendor}_a", f"{vendor}_b"), id=vendor, marks=marks(vendor)) for vendor in vendors]
    return pytest.mark.parametrize("each_vendor", pairs, indirect=True)
