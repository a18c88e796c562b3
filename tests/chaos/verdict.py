"""What came of a run, for the person who has to find out why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.comparing import differences, evidence, unsettled
from tests.chaos.world import World

_SHOWN = 10


@dataclass(frozen=True)
class Verdict:
    """Whether both sides are equal, and whether that means anything."""

    failures: list[str]
    conclusive: bool
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> int:
        """The exit code: 0 equal, 1 not equal, 2 nobody knows."""
        return 1 if self.failures else 0 if self.conclusive else 2

    @property
    def word(self) -> str:
        """The verdict in a word."""
        return ("equal", "DIFFERENT", "inconclusive")[self.code]


def judge(world: World, *, drained: bool, conclusive: bool, facts: Mapping[str, Any]) -> Verdict:
    """Compare both sides and collect what there is to say about a difference."""
    return Verdict(list(_failures(world, drained=drained)), conclusive, facts)


def _failures(world: World, *, drained: bool) -> Iterator[str]:
    left, different = unsettled(world), differences(world)
    if not (left or different):
        return
    if not drained:
        yield "Not everything has arrived in time."
    for entry in left[:_SHOWN]:
        yield f"not arrived: {' '.join(map(str, entry))}"
    for difference in different[:_SHOWN]:
        yield str(difference)
    for label, key in {(each.label, str(each.row[0])) for each in different[:_SHOWN]}:
        yield from evidence(world, label, key)
    yield "What was done last:"
    yield from world.history
    for process in [*world.workers.values(), *world.beats]:
        yield f"{process.name} says:\n{process.log[-2000:]}"
