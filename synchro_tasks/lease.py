"""One at a time across all workers, without a lock that a connection or a transaction would have to hold."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone

from synchro.conf import conf
from synchro.models import Option

#: A holder that dies frees the lease after this time. Nobody relies on it for correctness: two holders at once do some
#: work in vain, and nothing worse.
_DURATION = timedelta(seconds=60)


class Lease:
    """A row among LOCAL's options that says who works on something, and until when."""

    def __init__(self, key: str) -> None:
        self._key = key
        self._using = conf.local
        self._holder = uuid.uuid4().hex
        self._value = ""

    def acquire(self) -> bool:
        """Take the lease if nobody holds it."""
        now = timezone.now()
        Option.objects.using(self._using).get_or_create(key=self._key, defaults={"value": _text(now)})
        # An end too far in the future was written by a clock that is wrong.
        free = Q(value__lte=_text(now)) | Q(value__gt=_text(now + 2 * _DURATION))
        return self._hold(self._rows().filter(free))

    def renew(self) -> bool:
        """Hold the lease for the whole duration from now on, unless somebody else has taken it."""
        return self._hold(self._rows().filter(value=self._value))

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


def _text(moment: datetime) -> str:
    """Return a moment in a form whose order is that of time: always UTC, always with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")
