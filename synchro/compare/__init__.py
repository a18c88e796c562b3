"""Comparing everything that is watched, and having the engine repair what differs. Nothing here writes to REMOTE."""

from synchro.compare.background import is_possible as can_queue
from synchro.compare.background import queue
from synchro.compare.report import Difference, Kind, Tally
from synchro.compare.request import Request, chosen_models
from synchro.compare.run import Watcher, run

__all__ = ["Difference", "Kind", "Request", "Tally", "Watcher", "can_queue", "chosen_models", "queue", "run"]
