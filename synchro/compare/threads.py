"""Reading in threads, so that the databases work at the same time as each other and as the comparison itself."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from queue import Queue
from threading import Event, Thread
from typing import Any, TypeVar

from django.db import connections

T = TypeVar("T")
_END = object()


def produced(
    *producers: Callable[[], Generator[T]], ahead: int, weight: Callable[[T], int] = lambda made: 1
) -> Generator[T]:
    """Yield what the producers yield, each in a thread with connections of its own.

    Close the generator: the threads end with it.

    Args:
        ahead: so much does each of them make before it is used.
        weight: how much something is. They go on abreast: the next is always of the one that has yielded least.
    """
    queues: list[Queue[Any]] = [Queue(maxsize=ahead) for _ in producers]
    stop = Event()
    threads = [
        Thread(target=_produce, args=(each, made, stop), daemon=True)
        for each, made in zip(producers, queues, strict=True)
    ]
    for thread in threads:
        thread.start()
    try:
        yielded = dict.fromkeys(range(len(queues)), 0)
        while yielded:
            number = min(yielded, key=yielded.__getitem__)
            answer = queues[number].get()
            if answer is _END:
                del yielded[number]
            elif isinstance(answer, BaseException):
                raise answer
            else:
                yielded[number] += weight(answer)
                yield answer
    finally:
        stop.set()
        while any(thread.is_alive() for thread in threads):
            for made in queues:
                while not made.empty():
                    made.get_nowait()
            for thread in threads:
                thread.join(0.01)


def see_the_same(*aliases: str) -> bool:
    """Tell whether other connections see what this thread's see, and are worth it: SQLite gains nothing by them."""
    pair = [connections[alias] for alias in aliases]
    return not any(each.vendor == "sqlite" or each.in_atomic_block for each in pair)


def _produce(producer: Callable[[], Generator[Any]], answers: Queue[Any], stop: Event) -> None:
    try:
        with closing(producer()) as made:
            for each in made:
                answers.put(each)
                if stop.is_set():
                    return
    except BaseException as error:
        answers.put(error)
    else:
        answers.put(_END)
    finally:
        connections.close_all()
