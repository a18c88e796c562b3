"""``manage.py synchronize``: bring everything that is pending to REMOTE, in the foreground."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from synchro import core, engine
from synchro.conf import conf
from synchro.exceptions import SynchroError
from synchro.management.progress import progress_bar
from synchro.models import ChangeLog

#: What a shell expects of a program that Ctrl-C has ended.
_INTERRUPTED = 130


class Command(BaseCommand):
    """Parses nothing, synchronizes, and tells what happened."""

    help = "Bring every change that is pending to the REMOTE database. The exit code is 1 if objects failed."

    def handle(self, *args: Any, verbosity: int, **options: Any) -> str:
        """Synchronize and return the message, which Django prints."""
        try:
            with core.database_errors_explained():
                return self._run(verbosity)
        except (SynchroError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError(
                _("Interrupted. Everything that has not arrived stays pending, and the next run goes on with it."),
                returncode=_INTERRUPTED,
            ) from None

    def _run(self, verbosity: int) -> str:
        report = self._synchronize(shows_progress=verbosity > 0 and self.stderr.isatty())
        if verbosity > 1:
            self._write_counts(report)
        message = core.conclude(report)
        if verbosity > 0:
            self._mention_given_up()
        return message

    def _synchronize(self, *, shows_progress: bool) -> engine.Report:
        total = engine.count_pending() if shows_progress else 0
        if not total:
            return core.synchronize()
        with progress_bar(total, out=self.stderr) as advance:
            return core.synchronize(on_progress=advance)

    def _write_counts(self, report: engine.Report) -> None:
        for label, count in sorted(report.by_model.items()):
            self.stdout.write(f"{label}: {count}")
        self.stdout.write(
            _("Objects: %(synced)d synchronized, %(skipped)d skipped because REMOTE is newer, %(failed)d failed.")
            % {"synced": report.synced, "skipped": report.skipped, "failed": len(report.failures)}
        )

    def _mention_given_up(self) -> None:
        """Say that older failures remain, which no synchronization tries again by itself."""
        count = ChangeLog.objects.using(conf.local).failed().count()
        if count:
            sentence = ngettext(
                "%(count)d change failed too often before, and is not tried again until its object changes.",
                "%(count)d changes failed too often before, and are not tried again until their objects change.",
                count,
            )
            self.stdout.write(sentence % {"count": count})
