"""The engine: the only door to REMOTE."""

from synchro.engine.copies import renew_identity
from synchro.engine.difference import HIDDEN, Comparison, FieldDifference, compare_object
from synchro.engine.errors import describe, is_transient
from synchro.engine.holds import check, pass_on
from synchro.engine.link import identity
from synchro.engine.record import postpone, record_attempt
from synchro.engine.report import Failure, Report
from synchro.engine.sync import (
    backlog,
    count_pending,
    next_due,
    sync_due,
    sync_object,
    sync_objects,
    sync_pending,
)

__all__ = [
    "HIDDEN",
    "Comparison",
    "Failure",
    "FieldDifference",
    "Report",
    "backlog",
    "check",
    "compare_object",
    "count_pending",
    "describe",
    "identity",
    "is_transient",
    "next_due",
    "pass_on",
    "postpone",
    "record_attempt",
    "renew_identity",
    "sync_due",
    "sync_object",
    "sync_objects",
    "sync_pending",
]
