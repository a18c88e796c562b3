"""What a project would write itself without synchro: a task for each change, and nothing for messages that get lost."""

from __future__ import annotations

from celery import shared_task

from benchmarks.databases import REMOTE
from benchmarks.models import Unwatched


@shared_task(name="benchmarks.copy", ignore_result=True)
def copy(pk: int) -> None:
    """Save LOCAL's row on REMOTE."""
    Unwatched.objects.get(pk=pk).save(using=REMOTE)
