"""``manage.py synchronize``: bring everything that is pending to REMOTE, or compare everything, in the foreground."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from synchro import compare, core, engine
from synchro.conf import conf
from synchro.exceptions import SynchroError
from synchro.management.comparing import Screen, as_json, lines_of, table
from synchro.management.progress import progress_bar
from synchro.models import ChangeLog

#: What a shell expects of a program that Ctrl-C has ended.
_INTERRUPTED = 130
#: Options that say something about a comparison, and their values where nobody gives them.
_FULL_OPTIONS: dict[str, Any] = {
    **dict.fromkeys(
        ("dry_run", "check", "json", "delete_extra", "adopt_pks", "restart", "no_progress", "background"), False
    ),
    **{"models": [], "since": "", "where": [], "show": 0, "max_delete": "10%", "batch_size": None, "sleep": 0.0},
}


class Command(BaseCommand):
    """Parses the options, calls one function, and tells what happened."""

    help = (
        "Bring every change that is pending to the REMOTE database; with --full compare all objects and repair what "
        "differs. The exit code is 1 if objects failed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add what --full understands."""
        parser.add_argument("models", nargs="*", metavar="model", help="With --full: only these models or apps.")
        full = parser.add_argument_group("comparing")
        flags = {
            "full": "Compare all objects of both databases and repair what differs.",
            "dry-run": "Only report; nothing is logged or written.",
            "check": "End with exit code 1 if anything differs.",
            "json": "Print the report as JSON.",
            "delete-extra": "Also delete REMOTE rows that have no LOCAL object.",
            "adopt-pks": "Take REMOTE rows with the same automatic primary key for the copies: REMOTE began as a dump.",
            "restart": "Begin anew instead of going on where the last run was interrupted.",
            "no-progress": "Show no progress bars.",
            "background": "Let a Celery worker do it; the admin and Flower show its progress.",
        }
        for name, help_text in flags.items():
            full.add_argument(f"--{name}", action="store_true", help=help_text)
        full.add_argument("--since", default="", metavar="DATE", help="Only objects saved since (auto_now fields).")
        full.add_argument("--where", action="append", default=[], metavar="FIELD=VALUE", help="Only these objects.")
        full.add_argument("--show", type=int, default=0, metavar="N", help="Print up to N differences of each model.")
        full.add_argument(
            "--max-delete", default="10%", metavar="N", help="Delete at most so many rows of a model, or N%% of them."
        )
        full.add_argument("--batch-size", type=int, metavar="N", help="How many objects to compare at once.")
        full.add_argument("--sleep", type=float, default=0.0, metavar="SECONDS", help="Rest after each batch.")

    def handle(self, *args: Any, verbosity: int, full: bool = False, **options: Any) -> str:
        """Synchronize and return the message, which Django prints."""
        try:
            with core.database_errors_explained():
                return self._compare(verbosity, options) if full else self._run(verbosity, options)
        except (SynchroError, ImproperlyConfigured) as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError(
                _("Interrupted. Everything that has not arrived stays pending, and the next run goes on with it."),
                returncode=_INTERRUPTED,
            ) from None

    # Comparing

    def _compare(self, verbosity: int, options: dict[str, Any]) -> str:
        options = {**_FULL_OPTIONS, **options}
        request = compare.Request(
            models=tuple(options["models"]),
            where=tuple(options["where"]),
            **{name: options[name] for name in ("dry_run", "since", "delete_extra", "max_delete", "adopt_pks")},
        )
        pace = {name: options[name] for name in ("batch_size", "sleep", "restart")}
        if options["background"]:
            self._refuse_report(options)
            return compare.queue(request, **pace)
        quiet = options["json"] or options["no_progress"] or not verbosity or not self.stderr.isatty()
        text = self.stdout if verbosity and not options["json"] else None
        with Screen(show=options["show"], bars=None if quiet else self.stderr, text=text) as screen:
            tallies = compare.run(request, watcher=screen, **pace)
        if options["json"]:
            self.stdout.write(as_json(tallies, screen))
        elif verbosity:
            self.stdout.write("\n".join([*lines_of(screen.differences), *table(tallies)]))
        message = self._conclude(tallies, dry_run=request.dry_run, check=options["check"])
        return "" if options["json"] else message

    @staticmethod
    def _refuse_report(options: dict[str, Any]) -> None:
        for name in ("check", "show", "json"):
            if options[name]:
                raise CommandError(
                    _("%(option)s cannot be combined with --background, which does not wait for the report.")
                    % {"option": f"--{name}"}
                )

    @staticmethod
    def _conclude(tallies: list[compare.Tally], *, dry_run: bool, check: bool) -> str:
        """Return the message.

        Raises:
            CommandError: something failed or, where that is to be checked, differs.
        """
        failed = sum(tally.failed for tally in tallies)
        if any(tally.error for tally in tallies):
            raise CommandError(_("Not all models could be compared and repaired; the report says why."))
        if failed:
            raise CommandError(
                ngettext(
                    "%(count)d object could not be repaired; the attempts in the admin tell why.",
                    "%(count)d objects could not be repaired; the attempts in the admin tell why.",
                    failed,
                )
                % {"count": failed}
            )
        count = sum(tally.differences for tally in tallies)
        sentence = ngettext("%(count)d object differs.", "%(count)d objects differ.", count) % {"count": count}
        if count and check:
            raise CommandError(sentence)
        if not count:
            return _("Both databases agree.")
        left = sum(tally.differences - tally.repaired for tally in tallies)
        return sentence if dry_run or left else _("Everything that differed was repaired.")

    # What is pending

    def _run(self, verbosity: int, options: dict[str, Any]) -> str:
        given = [name for name, value in _FULL_OPTIONS.items() if options.get(name, value) != value]
        if given:
            named = "model" if given[0] == "models" else f"--{given[0].replace('_', '-')}"
            raise CommandError(_("%(option)s needs --full.") % {"option": named})
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
