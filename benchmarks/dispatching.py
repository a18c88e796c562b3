"""Log without Celery: what a site has that synchronizes from cron."""

from __future__ import annotations

from contextlib import AbstractContextManager
from unittest.mock import patch

from synchro.signals import changes_logged


def without_dispatch() -> AbstractContextManager[object]:
    """Let nobody hear of logged changes inside the block."""
    return patch.object(changes_logged, "receivers", [])
