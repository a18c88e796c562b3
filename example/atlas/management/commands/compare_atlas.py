from typing import Any

from django.core.management.base import BaseCommand, CommandError

from atlas.comparison import contents
from atlas.progress import LOCAL, REMOTE

SHOWN = 3  # differences of a model and side that are listed


class Command(BaseCommand):
    help = "Compares every row of the atlas on LOCAL and REMOTE, value by value. Fails when they differ."

    def handle(self, **options: Any) -> None:
        local, remote = contents(LOCAL), contents(REMOTE)
        for label, rows in local.items():
            missing, foreign = rows - remote[label], remote[label] - rows
            self.stdout.write(f"  {label:<24} {rows.total():>7,} rows  {'differ' if missing or foreign else 'equal'}")
            for where, difference in (("LOCAL", missing), ("REMOTE", foreign)):
                for row in sorted(difference)[:SHOWN]:
                    self.stderr.write(f"    only on {where}: {row[:200]}")
        if local != remote:
            raise CommandError("LOCAL and REMOTE differ.")
