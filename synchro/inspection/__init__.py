"""What operators ask and do: how far everything is, what happened to an object, try again, discard.

Commands and the admin are thin layers over these functions. Every question reads a bounded number of rows by an index,
however long the log is.
"""

from synchro.inspection.actions import choose, discard, retry, retry_kinds
from synchro.inspection.history import History, Remote, attempts_at, explain, find_model
from synchro.inspection.status import COUNTED, Backlog, Status
from synchro.inspection.words import discarded, label_of, moment_text, retried

__all__ = [
    "COUNTED",
    "Backlog",
    "History",
    "Remote",
    "Status",
    "attempts_at",
    "choose",
    "discard",
    "discarded",
    "explain",
    "find_model",
    "label_of",
    "moment_text",
    "retried",
    "retry",
    "retry_kinds",
]
