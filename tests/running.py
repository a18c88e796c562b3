"""Running a task as a worker does, without a worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from celery.app.trace import trace_task

from tests.celery_app import app

#: Published tasks: the name, and the arguments of each message.
Queued = list[tuple[str, list[Any]]]


@dataclass
class Run:
    """How a run of a task ended."""

    state: str
    #: The error of a failure or of a retry.
    error: Any
    result: str


def run(model_label: Any, pk: Any, *, retries: int = 0, redelivered: bool = False, task_id: str = "task-1") -> Run:
    """Run the task replicate as a worker does."""
    return run_task("replicate", model_label, pk, retries=retries, redelivered=redelivered, task_id=task_id)


def run_task(name: str, *args: Any, retries: int = 0, redelivered: bool = False, task_id: str = "task-1") -> Run:
    """Run a task as a worker does."""
    request = {
        "id": task_id,
        "is_eager": False,
        "retries": retries,
        "delivery_info": {"exchange": "", "routing_key": "celery", "redelivered": redelivered},
    }
    task = app.tasks[f"synchro_tasks.{name}"]
    ended = trace_task(task, task_id, args, {}, request, app=app)
    if ended.info is None:
        return Run("SUCCESS", None, ended.retval)
    error = ended.info.retval
    return Run(ended.info.state, error.exc if ended.info.state == "RETRY" else error, "")
