"""What is brought to REMOTE together, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from synchro.engine.relations import Target
from synchro.registry import ModelClass


@dataclass(slots=True)
class Step:
    """Objects of one model that are to be brought to REMOTE together."""

    model: ModelClass
    ids: list[str]
    #: Copy an object that REMOTE lacks even if it has no pending entry: something else points to it.
    wanted: bool = False
    #: Write NULL for now where a foreign key points to something that REMOTE lacks: the objects point to each other.
    breaks_cycle: bool = False
    #: Objects that need each other from the beginning, and are brought in one transaction: what they point to may come
    #: after them, and what points to them may go after them.
    circle: frozenset[Target] = frozenset()
    #: Let rows give up unique values that others of the step want: written one after the other they refused each other.
    makes_way: bool = False
    #: Nothing that it waits for comes before it.
    is_stuck: bool = False
    #: The newest entry of each object that was taken for it.
    newest: dict[str, int] = field(default_factory=dict)
    #: After how many moves of the run it let others go first; a second time without any move is no use.
    stepped_aside_at: int = -1


@dataclass(frozen=True, slots=True)
class Taken:
    """A log entry as it was read under the lock."""

    id: int
    action: int
    date: datetime
    #: It only brings LOCAL's state once more, because a handler saved the copy.
    is_repeated: bool


@dataclass(slots=True)
class Outcome:
    """What became of a step, by object id."""

    #: Entries whose change is on REMOTE.
    arrived: dict[str, list[int]] = field(default_factory=dict)
    #: Entries that lost against REMOTE, with the reason.
    lost: dict[str, tuple[list[int], str]] = field(default_factory=dict)
    failures: dict[str, Exception] = field(default_factory=dict)
    #: What has to come first.
    blocked: dict[str, set[Target]] = field(default_factory=dict)
    #: Those that come first because they still point to an object that is to be deleted.
    holders: set[Target] = field(default_factory=set)
    #: Objects of any model that were logged meanwhile: what was written on REMOTE has changed their copies.
    logged: set[Target] = field(default_factory=set)
    #: Objects that the next round finishes: deleted, and added again.
    again: set[str] = field(default_factory=set)
    #: Objects that were written with NULL for a foreign key, to be finished when its target is there.
    postponed: set[str] = field(default_factory=set)
    #: Objects that something points to and that LOCAL does not have.
    absent: set[str] = field(default_factory=set)
    #: Whether anything was written, so that another round may find less in its way.
    progress: bool = False
    #: REMOTE's keys to remember on LOCAL: those that REMOTE mirrors, and those of other objects that a key told.
    mirrored: dict[str, str] = field(default_factory=dict)
    references: dict[ModelClass, dict[str, str]] = field(default_factory=dict)
    #: Objects whose reference is to be forgotten.
    forgotten: set[str] = field(default_factory=set)
    #: Objects without entries that REMOTE has deleted and LOCAL needs, with the date of the deletion.
    needed: dict[str, datetime] = field(default_factory=dict)
    #: Objects that came back to REMOTE, which had deleted them, with the date of their newest entry.
    reborn: dict[str, datetime] = field(default_factory=dict)
