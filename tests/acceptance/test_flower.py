"""What Flower tells operators of replicate tasks: which object, and why it is being retried or has failed."""

from __future__ import annotations

import base64
import json
import re
import secrets
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest
from django.db import connections, transaction

from synchro import compare
from tests import factories
from tests.acceptance.processes import PATIENCE, Process, Site, wait_until
from tests.acceptance.steps import remote_held_up, waiting_backends
from tests.faults import ambiguous_twin

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

REPLICATE = "synchro_tasks.replicate"


@dataclass
class Flower:
    """A Flower that a test has started as the documentation says, and its API."""

    process: Process
    port: int
    password: str

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str, *, password: str | None = None) -> Any:
        """Return what the API answers."""
        credentials = base64.b64encode(f"operator:{password or self.password}".encode()).decode()
        request = Request(f"{self.url}{path}", headers={"Authorization": f"Basic {credentials}"})
        with urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def is_ready(self) -> bool:
        """Whether Flower answers, and has heard of the worker."""
        try:
            return any(self.get("/api/workers?status=true").values())
        except (HTTPError, URLError, ConnectionError, TimeoutError):
            return False

    def task(self, label: str, pk: Any) -> dict[str, Any]:
        """Return what Flower knows of the task for an object; empty if it has not heard of it."""
        tasks = self.get(f"/api/tasks?taskname={REPLICATE}").values()
        return next((task for task in tasks if task["args"] == repr((label, str(pk)))), {})

    def wait_for(self, label: str, pk: Any, state: str) -> dict[str, Any]:
        """Wait until the task for an object is in the state, and return it."""
        wait_until(lambda: self.task(label, pk).get("state") == state, f"{label} {pk} is {state} in Flower")
        return self.task(label, pk)


def start(site: Site) -> Flower:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    password = secrets.token_hex(8)
    environment = {
        "FLOWER_BASIC_AUTH": f"operator:{password}",
        "FLOWER_PERSISTENT": "true",
        "FLOWER_DB": str(site.directory / "flower"),
    }
    arguments = ("celery", "-A", "tests.celery_app", "flower", "--address=127.0.0.1", f"--port={port}")
    process = site.start("flower", *arguments, **environment)
    flower = Flower(process, port, password)
    wait_until(lambda: flower.is_ready() or not process.is_running, "Flower hears of the worker", timeout=PATIENCE)
    assert process.is_running, process.log
    return flower


def listening_addresses(port: int) -> set[str]:
    """Return the addresses at which anybody listens to a port."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, _, number = line.split()[1].partition(":")
            if int(number, 16) == port and line.split()[3] == "0A":
                family = socket.AF_INET if table == "tcp" else socket.AF_INET6
                words = [bytes.fromhex(address[start : start + 8])[::-1] for start in range(0, len(address), 8)]
                found.add(socket.inet_ntop(family, b"".join(words)))
    return found


def test_what_flower_tells(site: Site) -> None:
    worker = site.start_worker()
    flower = start(site)

    copied = factories.article()
    task = flower.wait_for("shop.Article", copied.pk, "SUCCESS")
    assert (task["name"], task["kwargs"], task["exception"]) == (REPLICATE, "{}", None)
    assert task["result"].strip("'").startswith("1 synced")

    failed = ambiguous_twin(site.pair)
    task = flower.wait_for("shop.Twin", failed.pk, "FAILURE")
    assert "More than one shop.Twin on REMOTE has the natural key" in task["exception"]

    with remote_held_up(site):
        retried = factories.article()
        waiting: dict[str, Any] = {}

        def is_waiting() -> object:
            """Lose the connection to REMOTE again and again, until the task waits in a worker for its next attempt.

            Flower says RETRY until a worker has taken the message again, which may be at once, and RECEIVED then.
            """
            with connections[site.pair.remote].cursor() as cursor:
                for pid in waiting_backends(site.pair.remote):
                    cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
            waiting.update(flower.task("shop.Article", retried.pk))
            return waiting.get("retried") and waiting["eta"]

        wait_until(is_waiting, "Flower shows that the task waits to be tried again")
        assert waiting["state"] in {"RETRY", "RECEIVED", "STARTED"}
        assert "terminating connection due to administrator command" in waiting["exception"]
    task = flower.wait_for("shop.Article", retried.pk, "SUCCESS")
    assert task["retries"] >= 1
    assert task["retried"] is not None
    assert task["exception"]
    for secret in ("127.0.0.1", "password", site.pair.remote):
        assert secret not in json.dumps(flower.get(f"/api/tasks?taskname={REPLICATE}"))
    assert worker.is_running
    assert listening_addresses(flower.port) == {"127.0.0.1"}

    with pytest.raises(HTTPError, match="401"):
        flower.get("/api/tasks", password="wrong")
    flower.process.stop()
    again = start(site)
    assert again.task("shop.Twin", failed.pk)["state"] == "FAILURE"


def test_the_progress_of_a_comparison(site: Site) -> None:
    """Flower shows which model is compared and how far it is, and what was found at the end."""
    for _ in range(3):
        factories.article()
    site.start_worker()
    flower = start(site)
    flower.wait_for("shop.Article", factories.article().pk, "SUCCESS")
    path = "/api/tasks?taskname=synchro_tasks.synchronize"

    def shown() -> dict[str, Any]:
        return next(iter(flower.get(path).values()), {})

    with transaction.atomic(using=site.pair.remote):
        with connections[site.pair.remote].cursor() as cursor:
            cursor.execute("LOCK TABLE shop_article")  # nobody reads it now
        compare.queue(compare.Request(models=("shop.Article", "shop.City"), dry_run=True))
        wait_until(lambda: shown().get("state") == "PROGRESS", "the comparison is shown")
        assert re.fullmatch(r"'?shop.Article: [04] of 4 compared'?", shown()["result"])

    wait_until(lambda: shown()["state"] == "SUCCESS", "the comparison has ended")
    assert "4 compared, 0 differences" in shown()["result"]
