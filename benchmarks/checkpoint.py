"""Checkpoint: one of them before a backlog that it cannot finish, and before one of which nothing is due.

It runs in a process of its own, as in a worker. What it hands out stays in the queue: it works alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from django.contrib.contenttypes.models import ContentType

from benchmarks.content import add_rows
from benchmarks.databases import LOCAL, empty, execute, fetch, settle
from benchmarks.models import Row
from benchmarks.report import Cell, Goal, Result
from benchmarks.sizes import Sizes
from benchmarks.workers import forget_messages
from synchro.models import ChangeLog

#: What a checkpoint may take: it begins nothing after 30 s of copying and 5 s of deleting.
_SECONDS = 40
_SECONDS_FOR_NOTHING = 1
_MEGABYTES = 100
#: Rows that are made here; PostgreSQL makes the others from them.
_SEED = 100
#: The kinds of backlog, and when their next attempt is.
_BACKLOGS = {"all due": "NULL", "all waiting": "now() + interval '1 hour'"}


def measure(sizes: Sizes) -> Result:
    """Measure a checkpoint before each backlog."""
    rows = [_measured(name, moment, sizes.backlog) for name, moment in _BACKLOGS.items()]
    return Result(
        name="checkpoint",
        title=f"One checkpoint with {sizes.backlog:,} pending entries",
        rows=rows,
        goals=list(_goals({str(row["backlog"]): row for row in rows})),
    )


def _measured(name: str, moment: str, count: int) -> dict[str, Cell]:
    empty()
    _add_backlog(count, moment)
    settle()
    try:
        found = _run()
    finally:
        forget_messages()
    left = int(fetch(LOCAL, "SELECT count(*) FROM synchro_changelog WHERE state = %s", ChangeLog.State.PENDING)[0])
    handed_out, seconds, grown = found["handed out"], found["seconds"], found["grown"]
    return {
        "backlog": name,
        "seconds": seconds,
        "grew by, MB": grown,
        "brought": count - left,
        "tasks handed out": handed_out,
    }


def _run() -> Any:
    """Run a checkpoint in a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.one_checkpoint"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _add_backlog(count: int, moment: str) -> None:
    """Fill LOCAL with rows, each with a pending entry whose next attempt is at the moment, in SQL."""
    add_rows(_SEED)
    fields: list[Any] = [field for field in Row._meta.local_concrete_fields if not field.primary_key]
    columns = ", ".join(field.column for field in fields)
    execute(
        LOCAL,
        f"INSERT INTO benchmarks_row ({columns}) SELECT {columns} FROM benchmarks_row, generate_series(2, %s)",
        count // _SEED,
    )
    execute(
        LOCAL,
        f"""
        INSERT INTO synchro_changelog
            (content_type_id, object_id, action, date, state, attempts, next_attempt_at, reason)
        SELECT %s, id, %s, now(), %s, 0, {moment}, '' FROM benchmarks_row ORDER BY id
        """,
        ContentType.objects.get_for_model(Row).pk,
        ChangeLog.Action.ADD,
        ChangeLog.State.PENDING,
    )


def _goals(rows: dict[str, dict[str, Cell]]) -> Iterator[Goal]:
    limits = dict(zip(_BACKLOGS, (_SECONDS, _SECONDS_FOR_NOTHING), strict=True))
    for name, row in rows.items():
        yield Goal(f"checkpoint, {name}: seconds", float(row["seconds"]), most=limits[name])
        yield Goal(f"checkpoint, {name}: grows by, MB", float(row["grew by, MB"]), most=_MEGABYTES)
