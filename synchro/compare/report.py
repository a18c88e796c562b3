"""What a comparison found: differences, and their numbers by model."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Kind(enum.StrEnum):
    """In which way the two sides differ."""

    MISSING = "missing"
    DIFFERENT = "different"
    #: REMOTE still has the copy of a LOCAL object that LOCAL remembers, and that is gone.
    DELETED = "deleted"
    #: REMOTE has a row that LOCAL does not remember.
    EXTRA = "extra"


@dataclass(frozen=True, slots=True)
class Value:
    """One field that differs, with the value on each side."""

    field: str
    local: Any
    remote: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """One object that differs. The key is LOCAL's or, of a row that exists only on REMOTE, REMOTE's."""

    model: str
    kind: Kind
    key: str
    values: tuple[Value, ...] = ()


@dataclass(slots=True)
class Tally:
    """The numbers of one model."""

    model: str
    #: LOCAL objects to compare, as counted when the model was begun, or gone on with.
    total: int = 0
    #: LOCAL objects that were looked at.
    compared: int = 0
    equal: int = 0
    missing: int = 0
    different: int = 0
    deleted: int = 0
    extra: int = 0
    #: Objects that differ because a change of them is on its way, to REMOTE or from there, or was given up.
    skipped: int = 0
    #: Objects whose repair was logged, and what became of them.
    logged: int = 0
    repaired: int = 0
    failed: int = 0
    #: How many of the repairs are deletes.
    deletes: int = 0
    #: The newest entry of the log when the model was begun: the repairs are younger.
    log_mark: int = 0
    seconds: float = 0.0
    is_finished: bool = False
    #: Why the model could not be compared, or its surplus not be deleted.
    error: str = ""

    def count_equal(self) -> None:
        """Count as equal what is nothing else.

        What an interrupted run has repaired is equal when it is met again, but was not when it was compared.
        """
        self.equal = max(self.compared - self.missing - self.different - self.skipped, 0)

    @property
    def differences(self) -> int:
        """The objects that differ, whether they were repaired or not."""
        return self.missing + self.different + self.deleted + self.extra

    @property
    def is_bad(self) -> bool:
        """Whether something is left that somebody has to look at."""
        return bool(self.failed or self.error)
