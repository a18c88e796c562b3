"""``manage.py synchro_status``: how far everything is, for people, for scripts and for monitoring."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.utils.timesince import timesince
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from synchro import core, inspection
from synchro.exceptions import SynchroError
from synchro.inspection import Backlog, Status

#: The exit code where the question could not be answered; 1 says that a limit is exceeded.
_UNKNOWN = 2


class Command(BaseCommand):
    """Prints the status, and complains where it is worse than it may be."""

    help = (
        "Tell how many changes are pending, retried, failed, skipped and discarded. The exit code is 1 if a limit is "
        "exceeded, and 2 if LOCAL could not be asked; REMOTE is not asked."
    )

    #: Checks would add their own complaints to each answer of a probe.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the limits and the form of the output."""
        parser.add_argument("--json", action="store_true", help="print JSON, always with all models")
        parser.add_argument("--max-lag", type=float, metavar="SECONDS", help="how old a pending change may be")
        parser.add_argument("--max-failed", type=int, metavar="N", help="how many changes may have failed")

    def handle(self, *, verbosity: int, max_lag: float | None, max_failed: int | None, **options: Any) -> None:
        """Print the status and end with an exit code."""
        try:
            with core.database_errors_explained():
                status = Status.read()
        except (SynchroError, ImproperlyConfigured) as error:
            raise CommandError(str(error), returncode=_UNKNOWN) from error
        if options["json"]:
            self.stdout.write(json.dumps(_as_json(status), cls=DjangoJSONEncoder, indent=2))
        else:
            self.stdout.write("\n".join(_lines(status, with_models=verbosity > 1)))
        if complaints := list(_complaints(status.total, max_lag=max_lag, max_failed=max_failed)):
            raise CommandError(" ".join(complaints))


def _as_json(status: Status) -> dict[str, Any]:
    return {
        "remote": status.remote,
        "last_check": status.last_check,
        "last_checkpoint": status.last_checkpoint,
        "holds": [{"model": each.label, "reason": each.reason, "since": each.since} for each in status.holds],
        **_counts(status.total),
        "counted_up_to": inspection.COUNTED,
        "models": {label: _counts(backlog) for label, backlog in status.models.items()},
    }


def _counts(backlog: Backlog) -> dict[str, Any]:
    return {**backlog.counts, "oldest": backlog.oldest, "lag": round(backlog.lag.total_seconds(), 3)}


def _lines(status: Status, *, with_models: bool) -> Iterator[str]:
    total = status.total
    yield _("REMOTE: %(alias)s") % {"alias": status.remote or "-"}
    yield _("Last check: %(moment)s") % {"moment": _moment(status.last_check)}
    yield _("Last checkpoint: %(moment)s") % {"moment": _moment(status.last_checkpoint)}
    for hold in status.holds:
        facts = {"what": hold.label or "REMOTE", "moment": inspection.moment_text(hold.since), "reason": hold.reason}
        yield _("%(what)s is left alone since %(moment)s: %(reason)s") % facts
    age = timesince(total.oldest, depth=2) if total.oldest else "-"
    yield _("Pending: %(count)s, the oldest for: %(age)s") % {"count": total.pending, "age": age}
    yield _("  being retried: %(retrying)s, waiting: %(waiting)s") % total.counts
    yield _("Failed: %(failed)s, skipped: %(skipped)s, discarded: %(discarded)s") % total.counts
    if with_models:
        yield from _table(status)
    if status.is_capped:
        yield _("Of each model and state at most %(count)s changes are counted.") % {"count": inspection.COUNTED}


def _table(status: Status) -> Iterator[str]:
    heads = [_("pending"), _("retrying"), _("waiting"), _("failed"), _("skipped"), _("discarded"), _("oldest")]
    rows = [["", *heads]]
    for label, each in status.models.items():
        rows.append([label, *map(str, each.counts.values()), _moment(each.oldest)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for label, *cells in rows:
        yield "  ".join(
            [label.ljust(widths[0]), *(cell.rjust(size) for cell, size in zip(cells, widths[1:], strict=True))]
        )


def _moment(moment: datetime | None) -> str:
    return inspection.moment_text(moment) if moment else "-"


def _complaints(total: Backlog, *, max_lag: float | None, max_failed: int | None) -> Iterator[str]:
    lag = total.lag.total_seconds()
    if max_lag is not None and lag > max_lag:
        facts = {"lag": round(lag), "limit": max_lag}
        yield _("The oldest pending change is %(lag)s seconds old, more than %(limit)s.") % facts
    if max_failed is not None and total.failed > max_failed:
        facts = {"count": total.failed, "limit": max_failed}
        sentence = ngettext(
            "%(count)d change has failed, more than %(limit)d.",
            "%(count)d changes have failed, more than %(limit)d.",
            total.failed,
        )
        yield sentence % facts
