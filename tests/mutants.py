"""The protocol broken on purpose, each time in one of the ways that look right: what tests of it must find.

A worker becomes a mutant by its environment; stalls make the moments longer in which a mutant goes wrong.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from django.db.models import Max

from synchro.engine import batch, locks
from synchro.engine.batch import _Batch
from synchro.engine.link import Link
from synchro.engine.locks import Mirror
from synchro.engine.steps import Outcome, Taken
from synchro.engine.values import restore_json_null
from synchro.keys import pk_from_text, pk_to_text
from synchro.lookups import pk_among
from synchro.models import ChangeLog
from synchro.registry import ModelClass

Setter = Callable[[Any, str, Any], None]


def no_lock(patch: Setter) -> None:
    """Look at the rows on REMOTE that should be locked, and lock none."""

    def only_look(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, Mirror]:
        found = locks._mirrors(link, model, object_ids).order_by("remote_object_id")
        return {
            local_text: Mirror(pk, remote_text)
            for pk, local_text, remote_text in found.values_list("id", "remote_object_id", "local_object_id")
        }

    patch(locks, "_lock", only_look)


def state_first(patch: Setter) -> None:
    """Read the objects' state, and only then take the entries."""

    def read(self: _Batch) -> None:
        pks = [pk_from_text(self.model, each) for each in self.step.ids]
        rows = self.model._base_manager.using(self.link.local).filter(pk_among(self.model, pks))
        self.instances = {pk_to_text(self.model, instance.pk): instance for instance in rows}
        restore_json_null(self.link.local, self.model, self.instances.values())
        self.entries = batch._take(self.link, self.model, self.step.ids)

    patch(_Batch, "read", read)


def all_entries(patch: Setter) -> None:
    """Mark whatever is pending of the objects that arrived, not only what was taken."""
    acknowledge = batch.acknowledge

    def acknowledge_all(link: Link, model: ModelClass, outcome: Outcome) -> None:
        log = ChangeLog.objects.using(link.local).pending()
        for each in outcome.arrived:
            outcome.arrived[each] = list(log.of_objects(model, [each]).values_list("id", flat=True))
        acknowledge(link, model, outcome)

    patch(batch, "acknowledge", acknowledge_all)


def watermark(patch: Setter) -> None:
    """Remember how far the log was copied instead of what was: nothing below that is ever looked at again."""
    take = batch._take

    def take_above(link: Link, model: ModelClass, object_ids: Collection[str]) -> dict[str, list[Taken]]:
        mark = ChangeLog.objects.using(link.local).synced().aggregate(mark=Max("id"))["mark"] or 0
        taken = take(link, model, object_ids)
        above = {each: [entry for entry in entries if entry.id > mark] for each, entries in taken.items()}
        return {each: entries for each, entries in above.items() if entries}

    patch(batch, "_take", take_above)


MUTANTS = {each.__name__: each for each in (no_lock, state_first, all_entries, watermark)}


def stall(patch: Setter, longest: float) -> None:
    """Let a worker stand still now and then between the steps of the protocol."""

    def maybe_stall() -> None:
        if random.random() < 0.3:
            time.sleep(random.uniform(0, longest))

    def slow(function: Callable[..., Any]) -> Callable[..., Any]:
        def stalled(*args: Any, **kwargs: Any) -> Any:
            maybe_stall()
            result = function(*args, **kwargs)
            maybe_stall()
            return result

        return stalled

    for place, name in ((locks, "lock_objects"), (_Batch, "read"), (_Batch, "write"), (batch, "_take")):
        patch(place, name, slow(getattr(place, name)))


def stand_still(patch: Setter, flag: Path) -> None:
    """Let the worker that finds the flag take it, and stop after it has read LOCAL and before it writes REMOTE."""
    read = _Batch.read

    def read_and_stop(self: _Batch) -> None:
        read(self)
        if flag.exists():
            flag.unlink()
            os.kill(os.getpid(), signal.SIGSTOP)

    patch(_Batch, "read", read_and_stop)


def mutate_worker(**kwargs: Any) -> None:
    """Make this process what its environment says; receiver of Celery's ``worker_init``."""
    if name := os.environ.get("SYNCHRO_TEST_MUTANT"):
        MUTANTS[name](setattr)
    if longest := os.environ.get("SYNCHRO_TEST_STALLS"):
        stall(setattr, float(longest))
    if flag := os.environ.get("SYNCHRO_TEST_STANDS_STILL"):
        stand_still(setattr, Path(flag))
