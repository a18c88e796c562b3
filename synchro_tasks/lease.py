"""One at a time across all workers, without a lock that a connection or a transaction would have to hold.

Locks of a database session would do, but not behind a pooler that hands sessions around, and not on SQLite.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event, Thread

from django.db import Error as AnyDatabaseError
from django.db import connections
from django.db.models import QuerySet
from django.utils.dateparse import parse_datetime

from synchro.conf import conf
from synchro.models import Option, ServerNow

logger = logging.getLogger(__name__)

#: A holder that dies frees the lease after this time. Nobody relies on it for correctness: two holders at once do some
#: work in vain, and nothing worse.
_DURATION = timedelta(seconds=20)
_SECONDS_BETWEEN_RENEWALS = 5.0


class Lease:
    """A row among LOCAL's options that says who works on something, and until when."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._using = conf.local
        self._holder = uuid.uuid4().hex
        self._value = ""
        #: Whether somebody else has taken the lease, because it could not be renewed in time.
        self.is_lost = False
        #: Whether the last holder has not let go of it, but died.
        self.is_inherited = False

    def acquire(self) -> bool:
        """Take the lease if nobody holds it."""
        found = self._read()
        if found is None:
            Option.objects.using(self._using).get_or_create(key=self._key, defaults={"value": ""})
            found = self._read()
        if found is None:
            return False  # somebody deletes it again and again
        value, now = found
        until = _end(value)
        # An end too far in the future was written before somebody put the server's clock back.
        if until is not None and now < until <= now + 2 * _DURATION:
            return False
        self.is_inherited = " " in value
        self._value = value
        return self._hold(now)

    def renew(self) -> bool:
        """Hold the lease for the whole duration from now on, unless somebody else has taken it."""
        found = self._read()
        self.is_lost = found is None or not self._hold(found[1])
        return not self.is_lost

    def release(self) -> None:
        """Let go of the lease if it is still held."""
        self._rows().filter(value=self._value).update(value="")

    def _hold(self, now: datetime) -> bool:
        """Go on from the value that was read or written last, unless somebody else has been faster."""
        value = f"{(now + _DURATION).isoformat()} {self._holder}"
        if not self._rows().filter(value=self._value).update(value=value):
            return False
        self._value = value
        return True

    def _read(self) -> tuple[str, datetime] | None:
        """Return the row's value and the server's time: one clock for all workers, however wrong theirs are."""
        found = self._rows().annotate(now=ServerNow()).values_list("value", "now").first()
        return (found[0], _utc(found[1])) if found is not None else None

    def _rows(self) -> QuerySet[Option]:
        return Option.objects.using(self._using).filter(key=self._key)


@contextmanager
def lease(key: str) -> Iterator[Lease | None]:
    """Hold the lease in the block, however long it takes; None where somebody else holds it.

    A thread renews it, so that a holder that waits for REMOTE is not taken for dead.
    """
    own = Lease(key)
    if not own.acquire():
        yield None
        return
    done = Event()
    heartbeat = Thread(target=_renew, args=(own, done), name=f"lease {key}", daemon=True)
    heartbeat.start()
    try:
        yield own
    finally:
        done.set()
        heartbeat.join()
        own.release()


def _renew(own: Lease, done: Event) -> None:
    try:
        while not done.wait(_SECONDS_BETWEEN_RENEWALS) and not own.is_lost:
            try:
                own.renew()
            except AnyDatabaseError as error:
                logger.warning("lease not renewed error=%s", type(error).__name__)
                connections.close_all()
    finally:
        connections.close_all()


def _end(value: str) -> datetime | None:
    """Return until when somebody holds the lease; None where nobody does."""
    moment = parse_datetime(value.partition(" ")[0])
    return _utc(moment) if moment is not None else None


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
