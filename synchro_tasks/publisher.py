"""Putting tasks into the broker without making anybody wait for it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from threading import Lock
from typing import Any

from celery import Task, current_app, uuid
from kombu import Connection, Producer

from synchro.conf import conf
from synchro_tasks.breaker import Breaker

logger = logging.getLogger(__name__)

#: The arguments of a task.
Args = tuple[Any, ...]
#: An object by label and id, as the tasks know it.
Named = tuple[str, str]
#: kombu.Producer; its type stubs do not know batch() yet.
_Producer = Any

#: Up to so many objects of a model get a task each. Of more only some do: a task takes along what was changed later.
_FEW = 20
#: Seconds for each step of talking to the broker. A request waits for one at most; a busy machine needs some at times.
_TIMEOUT = 0.1
#: The same for each transport in its own words, and no second try of kombu's.
_BOUNDED = {
    "socket_connect_timeout": _TIMEOUT,  # Redis
    "socket_timeout": _TIMEOUT,
    "retry_on_timeout": False,
    "read_timeout": _TIMEOUT,  # AMQP
    "write_timeout": _TIMEOUT,
    "max_retries": 0,
}
#: Seconds that a request waits for another thread which is talking to the broker. Longer means that something is wrong.
_PATIENCE = 0.005
#: The same where nobody looks at the clock.
_LONG_PATIENCE = 1.0


class Publisher:
    """Publishes tasks on a connection of its own, which gives up after milliseconds, and leaves a failing broker alone.

    Nothing depends on the messages: whoever uses this has another way to find the work later. Threads take turns, so
    that only one of them finds out that the broker does not answer.
    """

    def __init__(self) -> None:
        self._breaker = Breaker()
        self._turn = Lock()
        self._producer: _Producer | None = None
        #: Whether messages could not be published, and nothing was published to make up for them.
        self._has_gap = False

    def publish(self, task: Task[Any, Any], calls: Sequence[Args], *, after_gap: Task[Any, Any] | None = None) -> bool:
        """Publish one message for each tuple of arguments and return whether that worked; never raise.

        Args:
            after_gap: published without arguments when this works again after messages could not be published. With
                it the caller waits for other threads for a moment only.
        """
        if not calls:
            return True
        published = self._take_turn(task, calls, _PATIENCE if after_gap else _LONG_PATIENCE)
        if published and self._has_gap and after_gap is not None:
            self._has_gap = False
            self._take_turn(after_gap, [()], _PATIENCE)
        return published

    def close(self) -> None:
        """Close the connection."""
        with self._turn:
            self._disconnect()

    def _take_turn(self, task: Task[Any, Any], calls: Sequence[Args], patience: float) -> bool:
        """Publish when no other thread does, unless that takes too long."""
        published = False
        if self._wait_for_turn(patience):
            try:
                published = self._breaker.allows() and self._try(task, calls)
            finally:
                self._turn.release()
        if not published:
            self._has_gap = True
        return published

    def _wait_for_turn(self, patience: float) -> bool:
        # While the broker fails there is nothing to wait for but another thread's try.
        if self._turn.acquire(timeout=0 if self._breaker.is_open else patience):
            return True
        self._has_gap = True
        # Whose turn it is sees the gap in the end, unless that has just come.
        return self._turn.acquire(blocking=False)

    def _try(self, task: Task[Any, Any], calls: Sequence[Args]) -> bool:
        started = time.monotonic()
        try:
            self._publish(task, calls)
        except Exception as error:
            if self._breaker.failed(time.monotonic() - started):
                logger.warning("broker does not take tasks error=%s; the checkpoint does the work", _names(error))
            return False
        if self._breaker.succeeded():
            logger.info("broker takes tasks again")
        return True

    def _publish(self, task: Task[Any, Any], calls: Sequence[Args]) -> None:
        is_used = self._producer is not None
        started = time.monotonic()
        try:
            self._publish_once(task, calls)
        except Exception:
            # The broker has closed the connection since it was used last, or is gone: a new one tells. But silence is
            # waited for only once.
            if not is_used or time.monotonic() - started > _TIMEOUT / 2:
                raise
            self._publish_once(task, calls)

    def _publish_once(self, task: Task[Any, Any], calls: Sequence[Args]) -> None:
        producer: _Producer = self._producer or Producer(_bounded_connection(task.app))
        self._producer = producer
        try:
            with producer.batch() if len(calls) > 1 else nullcontext():
                for call in calls:
                    _send(producer, task, call)
        except BaseException:
            self._disconnect()
            raise

    def _disconnect(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.connection.collect()


def _send(producer: _Producer, task: Task[Any, Any], args: Args) -> None:
    """Send one message like ``apply_async``, but without what a caller would get back: in two thirds of the time."""
    app: Any = task.app
    chosen = chosen_options()
    expires = chosen.pop("expires", None)
    options = app.amqp.router.route(chosen, task.name, args, {}, task)
    message = app.amqp.create_task_message(
        uuid(),
        task.name,
        args,
        argsrepr=repr(args),
        kwargsrepr="{}",
        ignore_result=task.ignore_result,
        expires=expires,
        create_sent_event=app.conf.task_send_sent_event,
    )
    app.amqp.send_task_message(producer, task.name, message, serializer=task.serializer, retry=False, **options)


def wakeups(objects: Sequence[Named], batch_size: int) -> Iterator[Named]:
    """Yield the arguments of the tasks that bring the objects to REMOTE."""
    by_model: dict[str, list[Named]] = {}
    for each in objects:
        by_model.setdefault(each[0], []).append(each)
    for of_model in by_model.values():
        yield from of_model if len(of_model) <= _FEW else of_model[::batch_size]


def chosen_options() -> dict[str, Any]:
    """Return what synchro's settings say about publishing; all else is Celery's to decide."""
    options = {"queue": conf.task_queue, "expires": conf.task_expires}
    return {name: value for name, value in options.items() if value is not None}


def import_transport() -> None:
    """Import what talks to the broker now, so that the first request does not pay for it."""
    try:
        _bounded_connection(current_app).transport_cls  # noqa: B018
    except Exception as error:  # a wrong address: the system check says so
        logger.warning("broker cannot be used error=%s", _names(error))


def _bounded_connection(app: Any) -> Connection:
    return app.connection_for_write(connect_timeout=_TIMEOUT, transport_options=_BOUNDED)


def _names(error: BaseException) -> str:
    """Return the classes of an error and of what led to it; their messages may quote the broker's password."""
    names = [type(error).__name__]
    before = error.__cause__ or error.__context__
    while before is not None and not isinstance(error, OSError):
        names.append(type(before).__name__)
        error, before = before, before.__cause__ or before.__context__
    return " < ".join(dict.fromkeys(names))


_publisher = Publisher()
_inherited: list[Publisher] = []


def publish(task: Task[Any, Any], calls: Sequence[Args], *, after_gap: Task[Any, Any] | None = None) -> bool:
    """Publish with the publisher of this process; see ``Publisher.publish``."""
    return _publisher.publish(task, calls, after_gap=after_gap)


def start_afresh() -> None:
    """Begin with a new publisher. The old one is kept as it is: in a child process its connections are the parent's."""
    global _publisher
    _inherited.append(_publisher)
    _publisher = Publisher()


os.register_at_fork(after_in_child=start_afresh)
