"""``manage.py synchronize``: bring everything that is pending to REMOTE, in the foreground."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, InterfaceError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from synchro import engine
from synchro.engine.errors import describe
from synchro.exceptions import SynchroError
from synchro.progress import progress_bar


class Command(BaseCommand):
    """Bring everything that is pending to REMOTE."""

    help = _("Bring every logged change that is pending to the REMOTE database.")

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the options."""
        parser.add_argument("--no-progress", action="store_true", help=_("Show no progress bar, also on a terminal."))

    def handle(self, *args: Any, no_progress: bool = False, verbosity: int = 1, **options: Any) -> str:
        """Synchronize and tell what happened; Django prints the returned message."""
        try:
            report = self._synchronize(with_bar=not no_progress and verbosity > 0)
        except SynchroError as error:
            raise CommandError(str(error)) from error
        except (DatabaseError, InterfaceError) as error:
            raise CommandError(
                _("A database could not be used: %(reason)s Everything that has not arrived stays pending.")
                % {"reason": describe(error)}
            ) from error
        if verbosity > 1:
            self._write_counts(report)
        if report.failures:
            raise CommandError(self._failures(report))
        if report.is_empty:
            return _("No changes since last synchronization.")
        return _("Synchronization performed successfully.")

    def _synchronize(self, *, with_bar: bool) -> engine.Report:
        if not (with_bar and self.stderr.isatty()):
            return engine.sync_pending()
        with progress_bar(engine.count_pending(), stream=self.stderr) as advance:
            return engine.sync_pending(on_progress=advance)

    def _write_counts(self, report: engine.Report) -> None:
        for label, count in sorted(report.by_model.items()):
            self.stdout.write(f"{label}: {count}")
        self.stdout.write(
            _("%(synced)d synced, %(skipped)d skipped because REMOTE is newer, %(failed)d failed.")
            % {"synced": report.synced, "skipped": report.skipped, "failed": len(report.failures)}
        )

    def _failures(self, report: engine.Report) -> str:
        count = len(report.failures)
        head = ngettext(
            "%(count)d object could not be synchronized; all others were:",
            "%(count)d objects could not be synchronized; all others were:",
            count,
        ) % {"count": count}
        return "\n".join([head, *(f"  {each.model} {each.object_id}: {each.error}" for each in report.failures)])
