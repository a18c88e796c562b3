"""Suspicion after a worker was lost: what it was doing may have killed it, and may kill the next one.

A message that comes again was in the hands of one. And so may have been what the first task of a new child process is
about to take along: children that are made while the worker runs replace others.
"""

from __future__ import annotations

from typing import Any

from celery import Task
from celery.signals import worker_process_init, worker_ready

_is_running = False
_replaces_another = False


def connect() -> None:
    """Notice child processes that replace others."""
    worker_ready.connect(_note_running)
    worker_process_init.connect(_note_replacement)


def is_suspected(task: Task[Any, Any]) -> bool:
    """Tell whether what the task is about to do may have killed a worker before."""
    return _replaces_another or bool((task.request.delivery_info or {}).get("redelivered"))


def survived() -> None:
    """Note that this process has brought something to REMOTE, and lives."""
    global _replaces_another
    _replaces_another = False


def _note_running(**kwargs: Any) -> None:
    global _is_running
    _is_running = True


def _note_replacement(**kwargs: Any) -> None:
    global _replaces_another
    _replaces_another = _is_running
