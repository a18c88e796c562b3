"""Choosing vendors for tests about what only some of them do."""

from __future__ import annotations

import pytest

from tests.databases import Pair


def only_on(*vendors: str) -> pytest.MarkDecorator:
    """Let ``each_vendor`` be only some of the vendors."""
    pairs = [
        pytest.param(Pair(f"{vendor}_a", f"{vendor}_b"), id=vendor, marks=getattr(pytest.mark, vendor))
        for vendor in vendors
    ]
    return pytest.mark.parametrize("each_vendor", pairs, indirect=True)
