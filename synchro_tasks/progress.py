"""Telling monitors such as Flower how far a comparison is: as the task's result, until it has one."""

from __future__ import annotations

import logging
import time
from typing import Any

from celery import Task

from synchro.compare import Watcher

logger = logging.getLogger(__name__)

#: How often it is told.
_SECONDS = 2.0


class Progress(Watcher):
    """Sends Celery's events of the kind ``task-progress``, of which Flower shows every field that it knows."""

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task
        self._model = ""
        self._total = self._done = 0
        self._next = 0.0
        self._is_silent = False

    def begin(self, model: str, total: int, done: int) -> None:
        """Tell which model it is now."""
        self._model, self._total, self._done = model, total, done
        self._tell()

    def advance(self, count: int) -> None:
        """Tell how many objects of the model have been compared, now and then."""
        self._done += count
        if time.monotonic() >= self._next:
            self._tell()

    def _tell(self) -> None:
        if self._is_silent:
            return
        self._next = time.monotonic() + _SECONDS
        try:
            result = f"{self._model}: {self._done} of {self._total} compared"
            self._task.send_event("task-progress", retry=False, result=result)
        except Exception as error:
            # Without a broker nobody could see it, and the comparison needs none.
            self._is_silent = True
            logger.warning("progress not sent task=%s error=%s", self._task.name, type(error).__name__)
