"""``manage.py synchro_discard``: give up changes that have not arrived."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from synchro import inspection
from synchro.management.selection import SelectionCommand
from synchro.models import ChangeLogQuerySet


class Command(SelectionCommand):
    """Discards the chosen changes, after a question."""

    help = (
        "Give up changes that have not arrived: nothing is copied for them, and REMOTE keeps what it has, until the "
        "object changes again or 'synchronize --full' finds the difference. Without arguments what could be discarded "
        "is listed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the way not to be asked."""
        super().add_arguments(parser)
        parser.add_argument(
            "--noinput", "--no-input", action="store_false", dest="interactive", help="do not ask whether to do it"
        )

    def act(self, chosen: ChangeLogQuerySet, **options: Any) -> str:
        """Discard them and tell how many they are."""
        if options["interactive"] and not self._is_sure(chosen.count()):
            raise CommandError(_("Nothing was discarded."))
        return inspection.discarded(inspection.discard(chosen))

    def _is_sure(self, count: int) -> bool:
        question = ngettext("Discard %(count)d change? [y/N] ", "Discard %(count)d changes? [y/N] ", count)
        try:
            return input(question % {"count": count}).strip().lower() in ("y", "yes")
        except EOFError:  # nobody is there to answer
            return False
