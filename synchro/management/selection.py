"""What ``synchro_retry`` and ``synchro_discard`` have in common: how changes are chosen and listed."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _

from synchro import core, inspection
from synchro.conf import conf
from synchro.exceptions import SynchroError
from synchro.models import ChangeLog, ChangeLogQuerySet

#: So many changes are listed.
_LISTED = 50


class SelectionCommand(BaseCommand):
    """Lists what was tried and has not arrived, or does something with what is chosen of it."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the ways to choose."""
        parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="ids of entries of the change log")
        parser.add_argument(
            "--object",
            nargs=2,
            action="append",
            default=[],
            dest="objects",
            metavar=("app.Model", "PK"),
            help="all changes of one object that have not arrived; may be given more than once",
        )
        parser.add_argument(
            "--model",
            action="append",
            default=[],
            dest="models",
            metavar="app.Model",
            help="changes of one model that were tried and have not arrived; may be given more than once",
        )
        parser.add_argument("--all", action="store_true", help="all changes that were tried and have not arrived")

    def handle(self, *, ids: list[int], objects: list[list[str]], models: list[str], **options: Any) -> str | None:
        """List where nothing is chosen; else do with the chosen changes what the command is for."""
        try:
            with core.database_errors_explained():
                if not (ids or objects or models or options["all"]):
                    self._list()
                    return None
                chosen = inspection.choose(
                    ids=ids,
                    objects=[(inspection.find_model(label), pk) for label, pk in objects],
                    models=[inspection.find_model(label) for label in models],
                    everything=options["all"],
                )
                return self.act(chosen, **options)
        except (SynchroError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error

    def act(self, chosen: ChangeLogQuerySet, **options: Any) -> str:
        """Do it, and return what to tell."""
        raise NotImplementedError

    def _list(self) -> None:
        stuck = ChangeLog.objects.using(conf.local).stuck().order_by("-id").select_related("content_type")
        entries = list(stuck[: _LISTED + 1])
        for entry in entries[:_LISTED]:
            self.stdout.write(_line(entry))
        if not entries:
            self.stdout.write(_("Nothing is being retried, waiting or failed."))
        elif len(entries) > _LISTED:
            self.stdout.write(_("There are more. 'synchro_status -v 2' counts them."))


def _line(entry: ChangeLog) -> str:
    label = inspection.label_of(entry.content_type)
    state = entry.get_state_display()
    if entry.next_attempt_at is not None:
        state = _("%(state)s until %(moment)s") % {
            "state": state,
            "moment": inspection.moment_text(entry.next_attempt_at),
        }
    facts = {"id": entry.pk, "label": label, "pk": entry.object_id, "state": state, "count": entry.attempts}
    head = _("%(id)s  %(label)s %(pk)s  %(state)s, attempts: %(count)s") % facts
    return f"{head}  {entry.reason}".rstrip()
