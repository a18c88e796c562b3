"""Threads with database connections of their own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from django.db import connections

T = TypeVar("T")

PATIENCE = 30  # seconds after which a test that waits for another thread fails instead of hanging


def in_thread(function: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """Run the function in a thread that closes its connections; ``result(PATIENCE)`` returns or raises as it did."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args, **kwargs))
        except BaseException as error:  # the caller's thread raises it
            future.set_exception(error)
        finally:
            connections.close_all()

    threading.Thread(target=run, daemon=True).start()
    return future
