"""Pausing the log: a context variable, so that other threads and tasks go on logging."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_paused: ContextVar[bool] = ContextVar("synchro_paused", default=False)


def is_paused() -> bool:
    """Tell whether changes made here and now are left out of the log."""
    return _paused.get()


class DisableSynchroLog:
    """Leave changes out of the log inside a ``with`` block.

    It nests, also with itself, and holds only for this thread or task.
    """

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> None:
        self._tokens.append(_paused.set(True))

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _paused.reset(self._tokens.pop())


def disable_synchro_log(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function, also an async one, so that the changes it makes are left out of the log."""
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def paused_async(*args: P.args, **kwargs: P.kwargs) -> object:
            with DisableSynchroLog():
                return await function(*args, **kwargs)

        return paused_async  # type: ignore[return-value]

    @functools.wraps(function)
    def paused(*args: P.args, **kwargs: P.kwargs) -> R:
        with DisableSynchroLog():
            return function(*args, **kwargs)

    return paused
