"""The servers and processes of a chaos run: what the faults hit, what is restarted, and what is healed."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import psycopg
from django.conf import settings

from tests.acceptance.processes import PrivateSite, Process
from tests.acceptance.steps import start_beat

POOLS = {"prefork": ("--pool=prefork",), "threads": ("--pool=threads",)}
_TAIL = 60


@dataclass
class World:
    """A site with one worker of each pool and beat, and a record of what happened to it."""

    site: PrivateSite
    #: What tells the workers to behave badly.
    environment: dict[str, str] = field(default_factory=dict)
    workers: dict[str, Process] = field(default_factory=dict)
    beats: list[Process] = field(default_factory=list)
    #: LOCAL's primary keys by model label and business key, also of objects that are gone.
    pks: dict[tuple[str, str], str] = field(default_factory=dict)
    history: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))
    started: float = field(default_factory=time.monotonic)
    _lock: Lock = field(default_factory=Lock)

    def note(self, text: str) -> None:
        """Remember what was done."""
        with self._lock:
            self.history.append(f"{time.monotonic() - self.started:7.3f} {text}")

    def start(self) -> None:
        """Start the workers and beat, and wait until they work."""
        self.beats = [start_beat(self.site)]
        self.supervise()
        for worker in self.workers.values():
            worker.wait_for("ready.")

    def supervise(self) -> None:
        """Start again what has ended, as a supervisor does."""
        for pool, options in POOLS.items():
            if pool not in self.workers or not self.workers[pool].is_running:
                name = f"{pool}-{len(self.site.processes)}"
                self.workers[pool] = self.site.start_worker(
                    name, *options, concurrency=2, ready=False, **self.environment
                )
        self.beats = [each for each in self.beats if each.is_running] or [self.site.start_beat()]

    def heal(self) -> None:
        """Let everything run."""
        self.site.servers.start()
        self.supervise()

    def query(self, alias: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """Ask a database without Django."""
        servers = self.site.servers
        server = servers.local if alias == self.site.pair.local else servers.remote
        name = settings.DATABASES[alias]["NAME"]
        with psycopg.connect(f"{server.url}/{name}", autocommit=True) as connection:
            return connection.execute(sql.encode(), values or None).fetchall()

    def count_entries(self, *states: int) -> int:
        """Return the number of log entries in these states."""
        found = self.query(
            self.site.pair.local, "SELECT count(*) FROM synchro_changelog WHERE state = ANY(%s)", list(states)
        )
        return int(found[0][0])

    def drain(self, timeout: float) -> bool:
        """Wait until nothing is pending, without waiting for pauses of minutes; tell whether that came true."""
        deadline = time.monotonic() + timeout
        end_pauses = "UPDATE synchro_changelog SET next_attempt_at = now() WHERE state = 1 AND next_attempt_at > now()"
        while self.count_entries(1):
            if time.monotonic() > deadline:
                return False
            self.supervise()
            self.query(self.site.pair.local, f"{end_pauses} RETURNING id")
            time.sleep(0.3)
        return True
