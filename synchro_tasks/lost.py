"""Suspicion after a worker was lost: what it was doing may have killed it, and may kill the next one.

A message that comes again was in the hands of one. And what a new process begins with may have been in the hands of the
one that it replaces: a child of the same worker, or a whole worker that somebody has started again.
"""

from __future__ import annotations

from typing import Any

from celery import Task
from celery.signals import worker_init

#: Whether this process, which belongs to a worker, has brought nothing to REMOTE yet.
_is_new = False


def connect() -> None:
    """Notice the start of a worker; its children are made from it, and are as new as it is."""
    worker_init.connect(_note_start)


def is_suspected(task: Task[Any, Any]) -> bool:
    """Tell whether what the task is about to do may have killed a worker before."""
    return _is_new or bool((task.request.delivery_info or {}).get("redelivered"))


def survived() -> None:
    """Note that this process has brought something to REMOTE, and lives."""
    global _is_new
    _is_new = False


def _note_start(**kwargs: Any) -> None:
    global _is_new
    _is_new = True
