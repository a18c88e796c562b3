"""What happens to a task whose object could not be copied. Pure: it decides, and the task acts."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from synchro import engine
from synchro.exceptions import Held

#: The longest wait before each retry, in seconds: a minute together, far from any visibility timeout.
_CEILINGS = (2, 4, 8, 16, 30)


class Action(Enum):
    """What to do with the task and with the entries of its object."""

    #: The same task again, by Celery.
    RETRY = "retry"
    #: The task ends; the entries wait in the database until the checkpoint takes them.
    POSTPONE = "postpone"
    #: The task ends, and trying again would not help.
    FAIL = "fail"
    #: The task ends and leaves the entries as they are: something larger is held back, and probed now and then.
    LEAVE = "leave"


@dataclass(frozen=True, slots=True)
class Decision:
    """An action and, for a retry, after how many seconds."""

    action: Action
    seconds: float = 0.0


def decide(error: BaseException, retries: int, *, random: Callable[[], float] = random.random) -> Decision:
    """Decide after an error and so many retries.

    Where REMOTE or a model is held back nothing waits in the broker: the entries do, in the database. Waits have full
    jitter: what failed together, because rows were locked, does not come back together.

    Args:
        random: returns a number from 0 up to 1.
    """
    if not engine.is_transient(error):
        return Decision(Action.FAIL)
    if isinstance(error, Held):
        return Decision(Action.LEAVE)
    if retries >= len(_CEILINGS):
        return Decision(Action.POSTPONE)
    return Decision(Action.RETRY, _CEILINGS[retries] * random())
