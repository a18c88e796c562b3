"""The long way round: writers that do anything, faults of every kind, then heal, drain and compare."""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from threading import Event

from tests.chaos.faults import deck
from tests.chaos.verdict import Verdict, judge
from tests.chaos.world import World
from tests.chaos.writers import Writer

_WRITERS = 3
#: So much must have been processed before healing, or the faults have met nothing.
_ENOUGH = 0.4
_SECONDS_TO_DRAIN = 90.0


def run(world: World, seed: int, seconds: float) -> Verdict:
    """Let writers write and things go wrong for some seconds; return what came of it."""
    stop = Event()
    writers = [Writer(world, seed, number, stop) for number in range(_WRITERS)]
    for writer in writers:
        writer.start()
    random = Random(seed)
    faults = _disturb(world, random, seconds)
    stop.set()
    for writer in writers:
        writer.join()
    if not _has_met_much(world):
        faults += _disturb(world, random, seconds)  # a slow machine: its workers have just begun
    is_conclusive = _has_met_much(world)
    world.heal()
    total, left = world.count_entries(1, 2, 3, 4), world.count_entries(1)
    done = sum((writer.done for writer in writers), Counter())
    facts = {"operations": dict(done), "faults": faults, "entries": total, "processed before healing": total - left}
    drained = world.drain(_SECONDS_TO_DRAIN)
    return judge(world, drained=drained, conclusive=is_conclusive, facts=facts)


def _has_met_much(world: World) -> bool:
    """Tell whether so much has been processed that the faults must have met something."""
    total, left = world.count_entries(1, 2, 3, 4), world.count_entries(1)
    return total - left >= _ENOUGH * total


def _disturb(world: World, random: Random, seconds: float) -> int:
    """Let one thing go wrong after the other; return how many."""
    count = 0
    deadline = time.monotonic() + seconds
    for fault in deck(random):
        time.sleep(random.uniform(0.1, 0.8))
        if time.monotonic() > deadline:
            break
        world.note(f"--- {fault.__name__}")
        fault(world, random)
        world.supervise()
        count += 1
    return count
