"""The engine: the only door to REMOTE."""

from synchro.engine.errors import describe, is_transient
from synchro.engine.link import identity, renew_identity
from synchro.engine.sync import (
    Failure,
    Report,
    count_pending,
    next_due,
    postpone,
    record_attempt,
    record_failure,
    sync_due,
    sync_object,
    sync_pending,
)

__all__ = [
    "Failure",
    "Report",
    "count_pending",
    "describe",
    "identity",
    "is_transient",
    "next_due",
    "postpone",
    "record_attempt",
    "record_failure",
    "renew_identity",
    "sync_due",
    "sync_object",
    "sync_pending",
]
