"""Worker processes of a run, and its queues."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep

from django.conf import settings
from redis import Redis

from benchmarks.celery_app import app
from benchmarks.databases import REMOTE, fetch
from benchmarks.models import Row
from synchro_tasks.tasks import replicate

#: Where dispatched tasks go.
QUEUE = "celery"
#: Where workers listen until they are let loose.
_WAITING_ROOM = "waiting-room"

_ROOT = Path(__file__).parents[1]
_PATIENCE = 120  # seconds until a run that does not get on is given up


@contextmanager
def workers(count: int, *, pool: str = "prefork") -> Iterator[None]:
    """Run worker processes that take one task at a time; inside the block all of them are warm and idle.

    They begin with QUEUE when let_loose() is called.
    """
    names = [f"benchmark-{number}-{settings.RUN}@localhost" for number in range(count)]
    with ExitStack() as stack:
        stack.callback(forget_messages)
        for name in names:
            stack.enter_context(_worker(name, pool))
        wait_until(lambda: len(app.control.ping(names, timeout=0.5)) == count, "workers answer")
        _warm_up(count)
        yield


def let_loose() -> None:
    """Let the waiting workers take tasks from QUEUE."""
    app.control.add_consumer(QUEUE)


def queue_is_empty() -> bool:
    """Tell whether every message has been taken and acknowledged."""
    with _redis() as redis:
        return not (redis.llen(settings.REDIS_PREFIX + QUEUE) or redis.hlen(settings.REDIS_PREFIX + "unacked"))


def queue_length() -> int:
    """Return the number of messages that wait."""
    with _redis() as redis:
        return int(redis.llen(settings.REDIS_PREFIX + QUEUE))


def forget_messages() -> None:
    """Delete everything that this run has put into Redis."""
    with _redis() as redis:
        keys = list(redis.scan_iter(f"{settings.REDIS_PREFIX}*", count=1000))
        if keys:
            redis.delete(*keys)


def wait_until(condition: Callable[[], object], what: str, *, pause: float = 0.02) -> None:
    """Look again and again until the condition holds.

    Raises:
        TimeoutError: it does not within two minutes.
    """
    deadline = monotonic() + _PATIENCE
    while not condition():
        if monotonic() > deadline:
            raise TimeoutError(f"Not within {_PATIENCE} s: {what}.")
        sleep(pause)


@contextmanager
def _worker(name: str, pool: str) -> Iterator[None]:
    command = [sys.executable, "-m", "celery", "--quiet", "--app", "benchmarks.celery_app", "worker"]
    options = ["--hostname", name, "--queues", _WAITING_ROOM, "--pool", pool, "--concurrency", "1"]
    quiet = ["--loglevel", "ERROR", "--without-mingle", "--without-gossip"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, *options, *quiet], cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _warm_up(count: int) -> None:
    """Let each worker bring some rows to REMOTE, so that it has everything imported and is connected."""
    for _ in range(10 * count):
        row = Row.objects.create(**values(0))
        ...
