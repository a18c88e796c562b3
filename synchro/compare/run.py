"""A comparison from its beginning to its report: model by model, interrupted and taken up again at any point."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any

from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from synchro import engine
from synchro.compare import digests, repair, surplus
from synchro.compare.confirm import Confirmed, Logs, confirm
from synchro.compare.objects import Comparer
from synchro.compare.report import Difference, Kind, Tally, Value
from synchro.compare.request import Pace, Request, chosen_models
from synchro.compare.statistics import Statistics
from synchro.compare.threads import produced, see_the_same
from synchro.conf import conf
from synchro.engine.adopt import adopt
from synchro.engine.errors import describe, is_outage
from synchro.engine.link import Link, open_link
from synchro.engine.resolve import remembering
from synchro.exceptions import SynchroError, TransientError
from synchro.keys import pk_from_text
from synchro.lookups import pk_among
from synchro.models import ChangeLog, ChangeLogQuerySet, Comparison
from synchro.registry import ModelClass, model_label, watched_models
from synchro.rows import batched

logger = logging.getLogger(__name__)

#: Surplus rows that are remembered until it is known whether so many may be deleted; more are looked for again.
_REMEMBERED = 50_000
#: How often it is kept how far checksums are, and of how many groups at most that are not the same so far.
_SECONDS_BETWEEN_SCANS = 2.0
_KEPT_GROUPS = 20_000
#: So many suspected rows are compared by themselves even where those are most of the model's.
_ALWAYS_SUSPECTED = 1000


class Watcher:
    """Is told what happens. Does nothing by itself."""

    def resume(self, started_at: datetime) -> None:
        """Note that the comparison which was started then, and interrupted, is gone on with."""

    def begin(self, model: str, total: int, done: int) -> None:
        """Note that a model is begun that has so many objects, of which so many were compared before."""

    def advance(self, count: int) -> None:
        """Note that so many more objects have been compared."""

    def differ(self, difference: Difference) -> None:
        """Note a difference."""


def run(
    request: Request,
    *,
    watcher: Watcher | None = None,
    batch_size: int | None = None,
    sleep: float = 0.0,
    restart: bool = False,
    task_id: str = "",
) -> list[Tally]:
    """Compare, and repair unless it is a dry run; go on where the last run with the same request was interrupted.

    Args:
        restart: begin anew instead. So it does after half a day, and between other databases.

    Raises:
        SynchroError: there is no REMOTE, both sides are the same database, or another process has taken over.
        DatabaseError: a database cannot be used for now.
    """
    pace = Pace(batch_size, sleep)
    models = chosen_models(request.models)
    link = replace(open_link(), adopts_pks=request.adopt_pks)
    watcher = watcher or Watcher()
    record = _record(link, request, watcher, restart=restart)
    work = _Run(link, request, record, watcher, pace, task_id)
    with work.kept():
        work.repair_logged()
        for model in models:
            work.compare(model)
        work.repair_rest()
    comparisons = Comparison.objects.using(link.local)
    comparisons.abandon(record.request)
    comparisons.prune()
    return work.tallies


def _record(link: Link, request: Request, watcher: Watcher, *, restart: bool) -> Comparison:
    """Return the comparison to go on with, or a new one."""
    comparisons = Comparison.objects.using(link.local)
    between = [str(link.local_identity), link.remote, str(link.remote_identity)]
    wanted = {**request.as_plain(), "between": between}
    record = None if restart else comparisons.take_over(wanted)
    if record is not None:
        logger.info("comparison resumed started_at=%s", record.started_at)
        watcher.resume(record.started_at)
        return record
    comparisons.abandon(wanted)
    record = Comparison(request=wanted)
    record._state.db = link.local
    record.start()
    return record


@dataclass(slots=True)
class _Run:
    link: Link
    request: Request
    record: Comparison
    watcher: Watcher
    pace: Pace
    task_id: str
    tallies: list[Tally] = field(default_factory=list)
    position: str = ""
    #: How far the checksums of the last model are; None where it has none.
    scan: dict[str, Any] | None = None
    statistics: Statistics = field(init=False)

    def __post_init__(self) -> None:
        self.tallies = [Tally(**each) for each in self.record.tallies]
        self.position = self.record.position
        self.scan = self.record.scan
        self.statistics = Statistics(self.link)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep how far the comparison is, whatever ends it."""
        try:
            yield
        except BaseException as error:
            interrupted = Comparison.State.INTERRUPTED
            message = str(error) if isinstance(error, SynchroError) else describe(error)
            self.record.keep(self._numbers(), self.position, self.scan, state=interrupted, error=message)
            raise
        self.record.keep(self._numbers(), "", None, state=Comparison.State.FINISHED)

    def compare(self, model: ModelClass) -> None:
        """Compare one model. What cannot be compared fails alone."""
        tally = self._tally(model)
        if tally is None:
            return
        started, before = time.monotonic(), tally.seconds
        try:
            objects = self.request.objects(model, self.link.local)
            tally.total = objects.count()
            self.watcher.begin(tally.model, tally.total, tally.compared)
            _Model(self, model, tally, objects).compare()
        except (AnyDatabaseError, SynchroError) as error:
            if is_outage(error) or isinstance(error, TransientError):
                raise
            tally.error = describe(error)
            logger.warning("model not compared model=%s error=%s", tally.model, tally.error)
        finally:
            tally.seconds = before + time.monotonic() - started
        self.position, self.scan, tally.is_finished = "", None, True
        self.keep()

    def keep(self) -> None:
        """Keep how far the comparison is.

        Raises:
            SynchroError: another process has taken it over.
        """
        if not self.record.keep(self._numbers(), self.position, self.scan):
            raise SynchroError(_("Another process has taken over this comparison, and goes on with it."))

    @property
    def batch_size(self) -> int:
        """How many objects to compare at once."""
        return self.pace.batch_size or conf.batch_size

    def rest(self) -> None:
        """Leave the databases to others for a moment."""
        if self.pace.sleep:
            time.sleep(self.pace.sleep)

    def repair_logged(self) -> None:
        """Bring what an interrupted run has logged: what is pending would be left out."""
        if any(tally.logged for tally in self.tallies):
            self._bring()

    def repair_rest(self) -> None:
        """Bring what is left, above all the deletes, which must know of each other; and count what remains."""
        if not any(tally.logged for tally in self.tallies):
            return
        newest = self._newest_entry()
        self._bring()
        log = ChangeLog.objects.using(self.link.local).unsettled().filter(id__lte=newest)
        left = self._count_repairs(log)
        for tally in self.tallies:
            tally.failed = min(left.get(tally.model, 0), tally.logged)
            tally.repaired = tally.logged - tally.failed

    def _bring(self) -> None:
        """Bring what is pending. Repairs that lose against a newer change of REMOTE are none."""
        log = ChangeLog.objects.using(self.link.local).skipped()
        before = self._count_repairs(log)
        engine.sync_pending(task_id=self.task_id)
        after = self._count_repairs(log)
        for tally in self.tallies:
            lost = after.get(tally.model, 0) - before.get(tally.model, 0)
            tally.logged = max(tally.logged - lost, 0)

    def _count_repairs(self, log: ChangeLogQuerySet) -> dict[str, int]:
        """Return the number of objects with such entries since each model was begun of which something was logged.

        The log is asked, not this process: another one may have logged them.
        """
        marks = {tally.model: tally.log_mark for tally in self.tallies if tally.logged}
        models = {label: model for model in watched_models() if (label := model_label(model)) in marks}
        return {
            label: log.of(model).filter(id__gt=marks[label]).values("object_id").distinct().count()
            for label, model in models.items()
        }

    def _newest_entry(self) -> int:
        newest = ChangeLog.objects.using(self.link.local).order_by("-id").values_list("id", flat=True)
        return newest.first() or 0

    def _tally(self, model: ModelClass) -> Tally | None:
        """Return the numbers of the model to go on with; None if an earlier run has finished it."""
        label = model_label(model)
        known = next((tally for tally in self.tallies if tally.model == label), None)
        if known is None:
            known = Tally(label, log_mark=self._newest_entry())
            self.tallies.append(known)
        return None if known.is_finished else known

    def _numbers(self) -> list[dict[str, Any]]:
        return [asdict(tally) for tally in self.tallies]


@dataclass(slots=True)
class _Model:
    """The comparison of one model."""

    run: _Run
    model: ModelClass
    tally: Tally
    objects: Any
    #: Objects whose repair is logged, and which wait until they are enough for a batch, and what they were counted as.
    logged: dict[str, Kind] = field(default_factory=dict)
    comparer: Comparer = field(init=False)
    logs: Logs = field(init=False)

    def __post_init__(self) -> None:
        self.comparer = Comparer(self.run.link, self.model)
        self.logs = Logs(self.run.link, self.model)

    def compare(self) -> None:
        """Compare LOCAL's objects, and then see what REMOTE has beyond them."""
        if self.run.request.is_narrow:
            self._compare_objects()
            return
        plan = digests.plan(self.run.link, self.model) if self.run.scan or not self.run.position else None
        if plan is None and self.run.scan:  # there were checksums when the last run was interrupted
            self._begin_anew()
        if plan is None or not self._compare_suspects(plan):
            self._compare_objects()
            rows = self.model._base_manager.using(self.run.link.remote).all()
            if not self._are_all_counterparts(rows):
                self._compare_surplus(lambda: surplus.all_keys(rows, size=self.run.batch_size))

    def _are_all_counterparts(self, rows: QuerySet[Any]) -> bool:
        """Tell whether REMOTE has as many rows as there are counterparts, each of which is another row."""
        if self.tally.skipped:
            return False
        if self.run.request.dry_run:
            return rows.count() == self.tally.equal + self.tally.different
        # Once all that was logged has arrived, each object has one.
        log = ChangeLog.objects.using(self.run.link.local)
        return not log.unsettled().oldest_first(self.model).exists() and rows.count() == self.tally.compared

    # Both sides by checksums

    def _compare_suspects(self, plan: digests.Plan) -> bool:
        """Compare one by one only what checksums cannot vouch for; False where that is most of it."""
        if not self.run.scan:
            self._begin_anew()
        scan = digests.Scan.from_plain(self.run.scan) if self.run.scan else digests.Scan()
        if not scan.is_complete:
            self._scan(plan, scan)
        if scan.suspected > max(scan.total // 2, _ALWAYS_SUSPECTED):
            self.run.watcher.advance(-scan.total)
            self._begin_anew()
            return False
        groups = scan.groups(self.run.batch_size)
        for object_ids, position in self._suspected(plan, scan, groups):
            if rows := self.comparer.screen_some(object_ids):
                self.compare_rows(rows, position=position if self.run.scan else "")
                self.run.rest()
        self._repair()
        self.tally.compared = scan.total
        self.tally.count_equal()
        # Where both sides have as many rows and each of LOCAL's has its counterpart, none is left over.
        if not scan.is_balanced or scan.unreferenced or self.tally.missing or self.tally.skipped:
            self._compare_surplus(lambda: map(self._remote_keys, groups))
        return True

    def _begin_anew(self) -> None:
        """Forget what an interrupted run has counted, but not what it has repaired."""
        self.run.position, self.run.scan = "", None
        self.tally.compared = self.tally.equal = self.tally.skipped = 0
        if self.run.request.dry_run:
            self.tally.missing = self.tally.different = 0

    def _scan(self, plan: digests.Plan, scan: digests.Scan) -> None:
        """Read both sides, and keep from time to time how far that is."""
        kept = time.monotonic()
        with closing(digests.read(plan, scan, sleep=self.run.pace.sleep)) as counts:
            for count in counts:
                self.tally.compared = scan.total
                self.run.watcher.advance(count)
                if len(scan.balance) <= _KEPT_GROUPS and time.monotonic() - kept >= _SECONDS_BETWEEN_SCANS:
                    self.run.scan = scan.as_plain()
                    kept = time.monotonic()
                self.run.keep()
        self.run.scan = scan.as_plain() if len(scan.balance) <= _KEPT_GROUPS else None
        self.run.keep()

    def _suspected(
        self, plan: digests.Plan, scan: digests.Scan, groups: list[list[range]]
    ) -> Iterator[tuple[Iterable[str], str]]:
        """Yield the LOCAL objects to compare one by one, in batches, with the position after each of them."""
        done = json.loads(self.run.position or "[0, null, 0]")
        for number, (low, high) in enumerate(scan.unreferenced[done[0] :], done[0]):
            begin = done[1] if number == done[0] and done[1] is not None else low
            for pks in plan.unreferenced(begin, high, self.run.batch_size):
                yield map(str, pks), json.dumps([number, pks[-1] + 1, 0])
        self._repair()  # they may be met again in the groups
        for number, ranges in enumerate(groups[done[2] :], done[2] + 1):
            keys = list(map(str, _keys(ranges)))
            # Objects without a reference have had their turn.
            known = plan.is_mapped or scan.unreferenced
            object_ids = remembering(self.run.link, self.model, keys) if known else keys
            yield object_ids, json.dumps([len(scan.unreferenced), None, number])

    def _remote_keys(self, ranges: list[range]) -> list[Any]:
        rows = self.model._base_manager.using(self.run.link.remote)
        return list(rows.filter(pk_among(self.model, _keys(ranges))).values_list("pk", flat=True))

    # LOCAL's objects

    def _compare_objects(self) -> None:
        read = self._pages_of_objects
        if see_the_same(self.run.link.local):
            read = partial(produced, self._pages_of_objects, ahead=1)
        with closing(read()) as pages:
            for rows in pages:
                self.compare_rows(rows, position=self.comparer.text(list(rows)[-1]))
                self.run.watcher.advance(len(rows))
                self.run.rest()
        self._repair()

    def _pages_of_objects(self) -> Generator[dict[Any, Any]]:
        objects = self.objects.order_by("pk")
        last = pk_from_text(self.model, self.run.position) if self.run.position else None
        size = self.run.batch_size
        while rows := self.comparer.screen((objects if last is None else objects.filter(pk__gt=last))[:size]):
            yield rows
            last = list(rows)[-1]

    def compare_rows(self, rows: dict[Any, Any], *, position: str = "") -> None:
        """Compare some objects, log what differs, and bring it to REMOTE."""
        compared = self.comparer.compare(rows)
        if not self.run.request.dry_run:
            for model, object_ids in compared.unremembered.items():
                for batch in batched(dict.fromkeys(object_ids), conf.batch_size):
                    adopt(self.run.link, model, batch)
                    self.run.statistics.note(len(batch))
        confirmed = confirm(self.comparer, self.logs, compared) if compared.differing else Confirmed()
        with self._wholly(), transaction.atomic(using=self.run.link.local):
            self._count(rows, confirmed)
            logged = [] if self.run.request.dry_run else repair.log_objects(self.run.link, self.model, confirmed)
            self.tally.logged += len(logged)
            self.run.position = position
            self.run.keep()
        missing = set(confirmed.compared.missing)
        self.logged |= {each: Kind.MISSING if each in missing else Kind.DIFFERENT for each in logged}
        if len(self.logged) >= conf.batch_size:
            self._repair()

    @contextmanager
    def _wholly(self) -> Iterator[None]:
        """Leave the numbers and the position as they were if anything interrupts the block: it is done again then."""
        position, numbers = self.run.position, asdict(self.tally)
        try:
            yield
        except BaseException:
            self.run.position = position
            for name, value in numbers.items():
                setattr(self.tally, name, value)
            raise

    def _count(self, rows: Collection[Any], confirmed: Confirmed) -> None:
        found = confirmed.compared
        different = len({*found.rows, *found.members})
        self.tally.compared += len(rows) - len(confirmed.vanished)
        self.tally.missing += len(found.missing)
        self.tally.different += different
        self.tally.skipped += len(confirmed.skipped)
        self.tally.count_equal()
        for each in found.missing:
            self._tell(Kind.MISSING, each)
        for each in dict.fromkeys([*found.rows, *found.members]):
            self._tell(Kind.DIFFERENT, each, (*found.rows.get(each, ()), *found.members.get(each, ())))

    def _repair(self) -> None:
        """Bring what was logged, in batches that are worth it."""
        logged, self.logged = self.logged, {}
        if not logged:
            return
        report = engine.sync_objects(self.model, list(logged), task_id=self.run.task_id)
        self.run.statistics.note(len(logged))
        failed = logged.keys() & {each.object_id for each in report.failures if each.model == self.tally.model}
        lost = self._lost(list(logged)) if report.skipped else set()
        self.tally.failed += len(failed)
        self.tally.repaired += len(logged) - len(failed) - len(lost)
        # REMOTE has changed these after all, while they were on their way.
        self.tally.logged -= len(lost)
        self.tally.skipped += len(lost)
        self.tally.missing -= sum(logged[each] is Kind.MISSING for each in lost)
        self.tally.different -= sum(logged[each] is Kind.DIFFERENT for each in lost)

    def _lost(self, object_ids: list[str]) -> set[str]:
        """Return the objects, of those just brought, against which REMOTE has a newer change."""
        log = ChangeLog.objects.using(self.run.link.local).skipped().filter(id__gt=self.tally.log_mark)
        batches = batched(object_ids, conf.batch_size)
        return {each for ids in batches for each in log.of_objects(self.model, ids).values_list("object_id", flat=True)}

    # REMOTE's rows

    def _compare_surplus(self, keys: Callable[[], Iterable[list[Any]]]) -> None:
        """Count the rows that REMOTE has alone, and log as many of them as may be deleted."""
        earlier = self.tally.deletes  # of a run that was interrupted here
        self.tally.deleted = self.tally.extra = skipped = 0
        remembered: list[surplus.Surplus] = []
        for page in self._pages(keys()):
            skipped += page.skipped
            for each in page.found:
                self._count_surplus(each)
                if self._is_deleted(each) and len(remembered) < _REMEMBERED:
                    remembered.append(each)
        self.tally.skipped += skipped
        count = self.tally.deleted + (self.tally.extra if self.run.request.delete_extra else 0)
        self.tally.deleted += earlier
        if not count or self.run.request.dry_run:
            return
        remote_count = self.model._base_manager.using(self.run.link.remote).count()
        limit = self.run.request.most_deletions(remote_count + earlier) - earlier
        if count > limit:
            self._refuse(count)
            return
        found = (
            [remembered]
            if len(remembered) == count
            else ([each for each in page.found if self._is_deleted(each)] for page in self._pages(keys()))
        )
        self._log_deletes(found, limit)

    def _pages(self, keys: Iterable[list[Any]]) -> Iterator[surplus.Page]:
        for pks in keys:
            yield surplus.look(self.run.link, self.model, self.logs, pks)
            self.run.keep()
            self.run.rest()

    def _is_deleted(self, each: surplus.Surplus) -> bool:
        return each.is_remembered or self.run.request.delete_extra

    def _count_surplus(self, each: surplus.Surplus) -> None:
        if each.is_remembered:
            self.tally.deleted += 1
            self._tell(Kind.DELETED, each.owner)
        else:
            self.tally.extra += 1
            self._tell(Kind.EXTRA, each.key)

    def _refuse(self, count: int) -> None:
        self.tally.error = _(
            "%(count)d rows of REMOTE would be deleted, more than --max-delete %(limit)s allows. None of them was."
        ) % {"count": count, "limit": self.run.request.max_delete}

    def _log_deletes(self, found: Iterable[list[surplus.Surplus]], limit: int) -> None:
        for rows in found:
            for batch in batched(rows[:limit], conf.batch_size):
                self._log_some_deletes(batch)
            if len(rows) > limit:
                self.tally.error = _(
                    "LOCAL has lost more rows meanwhile: with them, more rows of REMOTE would be deleted than "
                    "--max-delete %(limit)s allows. Those beyond were not."
                ) % {"limit": self.run.request.max_delete}
                return
            limit -= len(rows)

    def _log_some_deletes(self, batch: list[surplus.Surplus]) -> None:
        with self._wholly(), transaction.atomic(using=self.run.link.local):
            gone = repair.log_deletes(self.run.link, self.model, batch)
            self.tally.logged += len(gone)
            self.tally.deletes += len(gone)
            self.run.keep()
        # An explicit key may have come to life again: then the delete must not be the last word.
        if living := [self.comparer.text(pk) for pk in self.comparer.read(gone)]:
            repair.log_living(self.run.link, self.model, living)

    def _tell(self, kind: Kind, key: str, values: tuple[Value, ...] = ()) -> None:
        self.run.watcher.differ(Difference(self.tally.model, kind, key, values))


def _keys(ranges: list[range]) -> list[int]:
    """Return the keys that belong to groups of checksums."""
    return [key for each in ranges for key in each]
