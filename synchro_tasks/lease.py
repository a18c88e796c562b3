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
from django.db.models import Q, QuerySet
from django.utils import timezone

from synchro.conf import conf
from synchro.models import Option

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
        now = timezone.now()
        row, _ = Option.objects.using(self._using).get_or_create(key=self._key, defaults={"value": _text(now)})
        self.is_inherited = " " in row.value
        # An end too far in the future was written by a clock that is wrong.
        free = Q(value__lte=_text(now)) | Q(value__gt=_text(now + 2 * _DURATION))
        return self._hold(self._rows().filter(free))

    def renew(self) -> bool:
        """Hold the lease for the whole duration from now on, unless somebody else has taken it."""
        self.is_lost = not self._hold(self._rows().filter(value=self._value))
        return not self.is_lost

    def release(self) -> None:
        """Let go of the lease if it is still held."""
        self._rows().filter(value=self._value).update(value=_text(timezone.now()))

    def _hold(self, row: QuerySet[Option]) -> bool:
        value = f"{_text(timezone.now() + _DURATION)} {self._holder}"
        if not row.update(value=value):
            return False
        self._value = value
        return True

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


def _text(moment: datetime) -> str:
    """Return a moment in a form whose order is that of time: always UTC, always with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
