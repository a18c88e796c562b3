"""What a comparison shows on a terminal: a bar for each model, differences, and the table at the end."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from datetime import datetime
from typing import Any

from django.core.management.base import OutputWrapper
from django.utils.formats import localize
from django.utils.timezone import template_localtime  # type: ignore[attr-defined]
from django.utils.translation import gettext as _

from synchro.compare import Difference, Kind, Tally, Watcher
from synchro.management.progress import progress_bar

#: Longer values are cut.
_WIDTH = 60


class Screen(Watcher):
    """Shows the progress and the first differences of each model."""

    def __init__(self, *, show: int, bars: OutputWrapper | None, text: OutputWrapper | None) -> None:
        self.differences: list[Difference] = []
        #: When the comparison was started that is gone on with; None where it is a new one.
        self.resumed: datetime | None = None
        self._show = show
        self._bars = bars
        self._text = text
        self._stack = ExitStack()
        self._advance: Callable[[int], None] | None = None
        self._shown: Counter[str] = Counter()

    def __enter__(self) -> Screen:
        return self

    def __exit__(self, *details: object) -> None:
        self._stack.close()

    def resume(self, started_at: datetime) -> None:
        """Say since when, before it goes on."""
        self.resumed = started_at
        if self._text is not None:
            sentence = _("Goes on with the comparison of %(moment)s, which was interrupted; --restart begins anew.")
            self._text.write(sentence % {"moment": localize(template_localtime(started_at))})

    def begin(self, model: str, total: int, done: int) -> None:
        """Open the model's bar."""
        self._stack.close()
        self._advance = None
        if self._bars is not None and total:
            bar = progress_bar(total, out=self._bars, label=model, done=done)
            self._advance = self._stack.enter_context(bar)

    def advance(self, count: int) -> None:
        """Move the bar."""
        if self._advance is not None:
            self._advance(count)

    def differ(self, difference: Difference) -> None:
        """Remember the difference, if so many are wanted."""
        self._shown[difference.model] += 1
        if self._shown[difference.model] <= self._show:
            self.differences.append(difference)


def lines_of(differences: Iterable[Difference]) -> Iterable[str]:
    """Yield the differences as lines of text."""
    for each in differences:
        yield f"{each.model} {each.key}: {_sentence(each.kind)}"
        for value in each.values:
            yield f"    {value.field}: LOCAL {_short(value.local)}, REMOTE {_short(value.remote)}"


def table(tallies: Sequence[Tally]) -> list[str]:
    """Return the numbers as a table, and below it what could not be compared."""
    head = [
        *(_("model"), _("compared"), _("equal"), _("missing"), _("different"), _("deleted"), _("extra")),
        *(_("repaired"), _("failed"), _("skipped because pending"), _("seconds")),
    ]
    rows = [[each.model, *map(str, _numbers(each)), f"{each.seconds:.1f}"] for each in tallies]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in (head, *rows)
    ]
    return [*lines, *(f"{each.model}: {each.error}" for each in tallies if each.error)]


def as_json(tallies: Sequence[Tally], screen: Screen) -> str:
    """Return everything for machines."""
    found = {
        "resumed": screen.resumed.isoformat() if screen.resumed is not None else None,
        "models": [asdict(each) for each in tallies],
        "differences": [asdict(each) for each in screen.differences],
    }
    return json.dumps(found, indent=2, default=str)


def _numbers(tally: Tally) -> list[int]:
    counts = [tally.compared, tally.equal, tally.missing, tally.different, tally.deleted, tally.extra]
    return [*counts, tally.repaired, tally.failed, tally.skipped]


def _sentence(kind: Kind) -> str:
    sentences = {
        Kind.MISSING: _("missing on REMOTE"),
        Kind.DIFFERENT: _("different"),
        Kind.DELETED: _("gone on LOCAL, still on REMOTE"),
        Kind.EXTRA: _("only on REMOTE"),
    }
    return sentences[kind]


def _short(value: Any) -> str:
    text = str(value) if hasattr(value, "target") else repr(value)
    return text if len(text) <= _WIDTH else f"{text[:_WIDTH]}…"
