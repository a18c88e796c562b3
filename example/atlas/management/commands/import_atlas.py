import argparse
from typing import Any

from django.core.management.base import BaseCommand

from atlas.progress import Progress
from atlas.source import import_world


class Command(BaseCommand):
    help = "Imports continents, countries, languages, currencies and cities into the LOCAL database by ordinary saves."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--cities", type=int, metavar="N", help="only the N biggest cities")
        parser.add_argument("--watch", action="store_true", help="show both sides growing, until all is on REMOTE")

    def handle(self, *, cities: int | None, watch: bool, **options: Any) -> None:
        progress = Progress(self.stderr)
        for _ in import_world(cities):
            if watch:
                progress.show()
        if watch:
            progress.wait()
        self.stdout.write(progress.summary())
