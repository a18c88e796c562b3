"""``manage.py synchro_explain app.Model pk``: what happened to one object."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from synchro import core, inspection
from synchro.exceptions import SynchroError
from synchro.models import Attempt, ChangeLog


class Command(BaseCommand):
    """Prints an object's history and how it differs."""

    help = (
        "Tell what happened to one object: its changes, the failed attempts to copy them, its primary key on REMOTE, "
        "and which fields are different there now. -v 2 adds where each attempt failed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the object."""
        parser.add_argument("model", metavar="app.Model")
        parser.add_argument("pk", help="the primary key on LOCAL; of several columns a JSON list of texts")

    def handle(self, *, model: str, pk: str, verbosity: int, **options: Any) -> None:
        """Explain the object."""
        try:
            with core.database_errors_explained():
                history = inspection.explain(inspection.find_model(model), pk)
        except (SynchroError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        self._write_head(history)
        if history.changes:
            self.stdout.write("\n" + _("Changes, the newest first:"))
        for change in history.changes:
            self.stdout.write(f"  {_change_line(change)}")
        if history.attempts:
            self.stdout.write("\n" + _("Failed attempts, the newest first:"))
        for attempt in history.attempts:
            self._write_attempt(attempt, with_traceback=verbosity > 1)

    def _write_head(self, history: inspection.History) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(f"{history.label} {history.object_id}"))
        self.stdout.write(history.outcome)
        if history.remote.pk is not None:
            self.stdout.write(_("Primary key on REMOTE: %(pk)s") % {"pk": history.remote.pk})
        for reference in history.references if history.remote.pk is None else ():
            facts = {"pk": reference.remote_object_id, "peer": reference.peer}
            self.stdout.write(_("Remembered primary key: %(pk)s at %(peer)s") % facts)
        self.stdout.write(str(history.remote))
        for each in history.remote.differences:
            facts = {"field": each.field, "local": each.local, "remote": each.remote}
            self.stdout.write("  " + _("%(field)s: LOCAL %(local)s, REMOTE %(remote)s") % facts)

    def _write_attempt(self, attempt: Attempt, *, with_traceback: bool) -> None:
        head = f"  {inspection.moment_text(attempt.date)}  {attempt.error}"
        self.stdout.write(f"{head}  {attempt.task_id}".rstrip())
        self.stdout.write(_indented(attempt.message))
        if with_traceback and attempt.traceback:
            self.stdout.write(_indented(attempt.traceback))


def _change_line(change: ChangeLog) -> str:
    facts = {
        "id": change.pk,
        "moment": inspection.moment_text(change.date),
        "action": change.get_action_display(),
        "state": change.get_state_display(),
        "attempts": change.attempts,
    }
    line = _("%(id)s  %(moment)s  %(action)s: %(state)s, attempts: %(attempts)s") % facts
    if change.synced_at is not None:
        line += f"  {inspection.moment_text(change.synced_at)}"
    return f"{line}  {change.reason}".rstrip()


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())
