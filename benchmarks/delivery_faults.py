"""REMOTE is away while many changes are logged and queued; then it comes back.

What counts: what the memory of the workers does meanwhile, whether tasks pile up with countdowns, whether anything was
tried or put off, and how fast everything drains. A catch-up of the same rows in the foreground is the measure of the
speed. Checkpoints are as rare as beat's; the clock starts with the first one that finds REMOTE back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from time import monotonic, perf_counter, sleep

from django.db import transaction

from benchmarks.content import add_rows
from benchmarks.databases import LOCAL, REMOTE, empty, execute, fetch, refuse_connections, settle, take_connections
from benchmarks.dispatching import without_dispatch
from benchmarks.models import Row
from benchmarks.report import Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.timing import seconds
from benchmarks.workers import countdowns, let_loose, queue_length, wait_until, workers
from synchro import engine, touch
from synchro.models import Attempt, ChangeLog
from synchro_tasks import schedule
from synchro_tasks.tasks import checkpoint

_WORKERS = 2
#: So many objects of a transaction get a task each.
_TOGETHER = 20
#: REMOTE is not tried more often than once a second, and beat does not come in the same.
_SECONDS_BETWEEN_PROBES = 1.5
_MEGABYTE = 2**20


@dataclass
class Outage:
    """What an outage did to the workers, and what it left in the log."""

    grown: float = 0.0
    countdowns: int = 0
    most_queued: int = 0
    tried: int = 0
    put_off: int = 0
    attempts: int = 0


def measure(sizes: Sizes) -> Result:
    """Measure an outage of REMOTE under many changes."""
    count = sizes.outage
    foreground = _catch_up(count)
    _forget_remote()
    with workers(_WORKERS) as processes:
        known = _rows_on_remote()
        refuse_connections(REMOTE)
        try:
            outage = _change_all(processes, sizes.outage_seconds)
        finally:
            take_connections(REMOTE)
        sleep(_SECONDS_BETWEEN_PROBES)
        started = perf_counter()
        _wait_for_checkpoints(lambda: _rows_on_remote() == known + count, "everything is on REMOTE")
        drained = count / (perf_counter() - started)
    return Result(
        name="delivery_faults",
        title=f"REMOTE away for {sizes.outage_seconds:.0f} s under {count:,} changes, {_WORKERS} workers",
        rows=[
            {
                "foreground, rows/s": foreground,
                "drained, rows/s": drained,
                "worker grew by, MB": outage.grown,
                "countdowns": outage.countdowns,
                "most queued": outage.most_queued,
                "entries tried": outage.tried,
                "put off": outage.put_off,
                "attempts kept": outage.attempts,
            }
        ],
        goals=[
            Goal("outage: a worker grows by, MB", outage.grown, most=50),
            Goal("outage: countdowns", outage.countdowns, most=0),
            Goal("outage: entries with an attempt", outage.tried, most=0),
            Goal("outage: entries that were put off", outage.put_off, most=0),
            Goal("outage: attempts kept", outage.attempts, most=0),
            Goal("outage: drained, part of the foreground", drained / foreground, least=0.8),
        ],
    )


def _catch_up(count: int) -> float:
    """Bring so many new rows to REMOTE in the foreground; return rows/s."""
    empty()
    add_rows(count)
    with without_dispatch():
        touch(Row.objects.all())
    settle()
    return count / seconds(engine.sync_pending)


def _forget_remote() -> None:
    """Let REMOTE have nothing, as if no row had ever been there."""
    execute(REMOTE, "TRUNCATE benchmarks_row")
    for alias in (LOCAL, REMOTE):
        execute(alias, "TRUNCATE synchro_reference, synchro_changelog, synchro_attempt RESTART IDENTITY")
    settle()


def _change_all(processes: Sequence[Popen[bytes]], seconds_away: float) -> Outage:
    """Log a change of every row, queue a task for each, and watch the workers find out that REMOTE is away."""
    outage = Outage()
    deadline = monotonic() + seconds_away
    beat = Beat()
    let_loose()
    before = [_memory(each) for each in processes]
    pks = list(Row.objects.order_by("pk").values_list("pk", flat=True))
    for first in range(0, len(pks), _TOGETHER):
        with transaction.atomic():
            touch(Row.objects.filter(pk__in=pks[first : first + _TOGETHER]))
        if first % (100 * _TOGETHER) == 0:
            _look(outage, processes, before)
    while monotonic() < deadline:
        beat.tick()
        _look(outage, processes, before)
        sleep(1)
    outage.tried = ChangeLog.objects.filter(attempts__gt=0).count()
    outage.put_off = ChangeLog.objects.exclude(next_attempt_at=None).count()
    outage.attempts = Attempt.objects.count()
    return outage


def _look(outage: Outage, processes: Sequence[Popen[bytes]], before: Sequence[float]) -> None:
    grown = max(_memory(process) - size for process, size in zip(processes, before, strict=True))
    outage.grown = max(outage.grown, grown)
    outage.countdowns = max(outage.countdowns, countdowns())
    outage.most_queued = max(outage.most_queued, queue_length())


def _wait_for_checkpoints(condition: Callable[[], bool], what: str) -> None:
    """Wait, with a checkpoint now and then."""
    beat = Beat()

    def met() -> bool:
        beat.tick()
        return condition()

    wait_until(met, what)


class Beat:
    """Queues a checkpoint at once, and then as often as beat does."""

    def __init__(self) -> None:
        self._next = monotonic()

    def tick(self) -> None:
        """Queue a checkpoint if it is time."""
        if monotonic() >= self._next:
            checkpoint.delay()
            self._next += schedule.SECONDS


def _memory(process: Popen[bytes]) -> float:
    """Return the megabytes that a worker and its children have in memory."""
    pid = process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pages = [int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in (str(pid), *children)]
    return sum(pages) * 4096 / _MEGABYTE


def _rows_on_remote() -> int:
    return int(fetch(REMOTE, "SELECT count(*) FROM benchmarks_row")[0])
