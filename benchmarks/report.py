"""What a run has found: a table for people, JSON for machines."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.databases import server_version

Cell = str | int | float | bool


@dataclass(frozen=True)
class Goal:
    """A figure that the project wants to keep, and whether this run did."""

    what: str
    value: float
    #: The most or the least it may be.
    most: float | None = None
    least: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the figure is within its limit."""
        return (self.most is None or self.value <= self.most) and (self.least is None or self.value >= self.least)

    @property
    def limit(self) -> str:
        """The limit in words."""
        return f"at most {_text(self.most)}" if self.most is not None else f"at least {_text(self.least or 0)}"


@dataclass(frozen=True)
class Result:
    """What one measurement has found."""

    name: str
    title: str
    rows: Sequence[dict[str, Cell]]
    goals: Sequence[Goal] = ()
    #: Figures that are too many for a table.
    details: dict[str, Any] = field(default_factory=dict)

    def as_markdown(self) -> str:
        """Return the title, the table and the goals."""
        lines = [f"## {self.title}", "", *_table(self.rows)]
        if self.goals:
            goals = [
                {"goal": goal.what, "is": goal.value, "wanted": goal.limit, "met": "yes" if goal.is_met else "NO"}
                for goal in self.goals
            ]
            lines += ["", *_table(goals)]
        return "\n".join([*lines, ""])


def write_json(path: Path, results: Sequence[Result], sizes: Any) -> None:
    """Write all results with what is needed to compare them with those of another day."""
    found = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "sizes": asdict(sizes),
        "results": [
            {**asdict(each), "goals": [{**asdict(goal), "met": goal.is_met} for goal in each.goals]} for each in results
        ],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=2) + "\n", "utf-8")


def machine() -> dict[str, Cell]:
    """Return what the figures depend on."""
    return {
        "cpus": os.cpu_count() or 0,
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "postgresql": server_version(),
        **{name: version(name) for name in ("django", "psycopg", "celery")},
    }


def _table(rows: Sequence[dict[str, Cell]]) -> list[str]:
    names = list(rows[0])
    texts = [[_text(row[name]) for name in names] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    numeric = [not isinstance(value, str) for value in rows[0].values()]
    rule = ["-" * (width - 1) + (":" if right else "-") for width, right in zip(widths, numeric, strict=True)]
    return [_line(cells, widths, numeric) for cells in (names, rule, *texts)]


def _line(cells: Sequence[str], widths: Sequence[int], numeric: Sequence[bool]) -> str:
    padded = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(cells, widths, numeric, strict=True)
    ]
    return f"| {' | '.join(padded)} |"


def _text(value: Cell) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else value
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
