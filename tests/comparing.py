"""Comparing everything, and what was found."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Any

from synchro import compare
from synchro.compare import Difference, Request, Tally, Watcher
from synchro.models import ChangeLog


class Notes(Watcher):
    """Remembers the differences, and what was gone on with."""

    def __init__(self) -> None:
        self.found: list[Difference] = []
        self.resumed: list[datetime] = []

    def resume(self, started_at: datetime) -> None:
        self.resumed.append(started_at)

    def differ(self, difference: Difference) -> None:
        self.found.append(difference)

    @property
    def kinds(self) -> list[tuple[str, str, str]]:
        return sorted((each.model.partition(".")[2], str(each.kind), each.key) for each in self.found)


def full(**options: Any) -> tuple[dict[str, Tally], Notes]:
    """Compare and return the numbers by model, and the differences."""
    notes = Notes()
    request = {"max_delete": "100%", **options}
    pace = {name: request.pop(name) for name in ("batch_size", "restart") if name in request}
    tallies = compare.run(Request(**request), watcher=notes, **pace)
    return {each.model.partition(".")[2]: each for each in tallies}, notes


def assert_agree(*models: str) -> None:
    """A comparison of all watched models, or of some, finds nothing at all, and logs nothing."""
    before = ChangeLog.objects.count()
    tallies, notes = full(models=models, dry_run=True)
    assert notes.found == []
    assert [each for each in tallies.values() if each.error or each.skipped] == []
    assert ChangeLog.objects.count() == before


def numbers(tally: Tally) -> dict[str, Any]:
    """The numbers that are not 0."""
    ignored = ("model", "total", "seconds", "is_finished", "deletes", "log_mark")
    return {name: value for name, value in asdict(tally).items() if value and name not in ignored}
