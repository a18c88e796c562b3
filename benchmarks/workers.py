"""Worker processes of a run, and its queue."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from time import monotonic, sleep

from redis import Redis

from benchmarks import settings
from benchmarks.celery_app import app
from benchmarks.content import values
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Row
from synchro import engine
from synchro_tasks.tasks import replicate

#: Where dispatched tasks go.
QUEUE = "celery"

_ROOT = Path(__file__).parents[1]
_PATIENCE = 120  # seconds until a run that does not get on is given up
_WARM_UP = 20  # tasks for each worker


@contextmanager
def workers(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run workers with one process each; inside the block they are warm, and idle until ``let_loose()`` is called."""
    names = [f"worker-{number}-{settings.RUN}@benchmark" for number in range(count)]
    with ExitStack() as stack:
        stack.callback(forget_messages)
        processes = [stack.enter_context(_worker(name)) for name in names]
        wait_until(lambda: len(app.control.ping(names, timeout=0.5) or ()) == count, "the workers answer")
        for name in names:
            _warm_up(name)
        yield processes


def let_loose() -> None:
    """Let the workers take what is dispatched."""
    app.control.add_consumer(QUEUE)


def is_idle() -> bool:
    """Tell whether every message has been taken and acknowledged."""
    return not (queue_length() or _redis().hlen(f"{settings.REDIS_PREFIX}unacked"))


def queue_length() -> int:
    """Return the number of messages that no worker has taken."""
    return int(_redis().llen(settings.REDIS_PREFIX + QUEUE))


def countdowns() -> int:
    """Return the number of tasks that workers hold until their time has come."""
    messages = _redis().hvals(f"{settings.REDIS_PREFIX}unacked")
    return sum(1 for each in messages if json.loads(each)[0]["headers"].get("eta"))


def forget_messages() -> None:
    """Delete everything that this run has put into Redis."""
    redis = _redis()
    if keys := list(redis.scan_iter(f"{settings.REDIS_PREFIX}*", count=1000)):
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
def _worker(name: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker that listens to a queue of its own name and to nothing else."""
    command = [sys.executable, "-m", "celery", "--quiet", "--app", "benchmarks.celery_app", "worker"]
    options = ["--hostname", name, "--queues", name, "--concurrency", "1", "--loglevel", "ERROR"]
    alone = ["--without-mingle", "--without-gossip"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, *options, *alone], cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield process
        except Exception:
            log.seek(0)
            print(log.read().decode(errors="replace"), file=sys.stderr)
            raise
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _warm_up(name: str) -> None:
    """Let a worker bring some rows to REMOTE, so that everything is imported and connected."""
    for _ in range(_WARM_UP):
        with without_dispatch():
            row = Row.objects.create(**values(0))
        replicate.apply_async((Row._meta.label, str(row.pk)), queue=name)
        wait_until(lambda: not engine.count_pending(), f"{name} replicates", pause=0.005)


@cache
def _redis() -> Redis:
    return Redis.from_url(settings.REDIS_URL)
