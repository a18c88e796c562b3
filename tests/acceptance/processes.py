"""Real workers and beats: started, watched, killed and always ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from django.conf import settings
from kombu import pools
from redis import Redis

from synchro_tasks import publisher
from tests.databases import Pair
from tests.private import PrivateServers

PATIENCE = 60  # seconds until a process that does not do what it should fails the test
ROOT = Path(__file__).resolve().parents[2]


def wait_until(condition: Callable[[], object], what: str, *, timeout: float = PATIENCE, pause: float = 0.05) -> None:
    """Wait until the condition holds; fail with what was waited for."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(pause)


@dataclass
class Process:
    """A child process in a process group of its own, with its output in a file."""

    name: str
    popen: subprocess.Popen[bytes]
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text("utf-8", errors="replace")

    @property
    def is_running(self) -> bool:
        return self.popen.poll() is None

    def wait_for(self, text: str, *, timeout: float = PATIENCE) -> None:
        """Wait until the process has printed the text."""
        wait_until(lambda: text in self.log or not self.is_running, f"{self.name} says {text!r}", timeout=timeout)
        assert text in self.log, f"{self.name} ended:\n{self.log}"

    def pause(self) -> None:
        """Let every process of the group stand still."""
        os.killpg(self.popen.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let the group run again."""
        os.killpg(self.popen.pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill the whole group without a warning, as a power failure would."""
        if self.is_running:
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def stop(self, *, timeout: float = 20) -> None:
        """Ask the process to finish, and kill it if it does not."""
        if self.is_running:
            self.popen.send_signal(signal.SIGTERM)
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()


@dataclass
class Site:
    """A project on two databases with a part of a broker of its own."""

    pair: Pair
    broker: str
    directory: Path
    prefix: str = field(default_factory=lambda: f"synchro-test-{uuid.uuid4().hex}:")
    processes: list[Process] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What tells a child process to use this site."""
        return {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONUNBUFFERED": "1",
            "SYNCHRO_TEST_RUN": settings.RUN,
            "SYNCHRO_TEST_LOCAL": self.pair.local,
            "SYNCHRO_TEST_REMOTE": self.pair.remote,
            "SYNCHRO_TEST_BROKER": self.broker,
            "SYNCHRO_TEST_PREFIX": self.prefix,
        }

    def start(self, name: str, *arguments: str, **environment: str) -> Process:
        """Start ``python -m`` with the arguments."""
        log_file = self.directory / f"{len(self.processes)}-{name}.log"
        with log_file.open("wb") as log:
            popen = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=self.directory,
                env={**self.environment, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = Process(name, popen, log_file)
        self.processes.append(process)
        return process

    def start_worker(
        self, name: str = "worker", *more: str, concurrency: int = 1, ready: bool = True, **env: str
    ) -> Process:
        """Start a Celery worker, with more options, and wait until it takes tasks."""
        options = ["--hostname", f"{name}@test", "--concurrency", str(concurrency), "--loglevel", "INFO"]
        options += ["--without-mingle", *more]
        worker = self.start(name, "celery", "-A", "tests.celery_app", "worker", *options, **env)
        if ready:
            worker.wait_for(f"{name}@test ready.")
        return worker

    def start_beat(self, *, interval: float = 1, **env: str) -> Process:
        """Start beat, which looks at its schedule every ``interval`` seconds."""
        options = ["--max-interval", str(interval), "--loglevel", "INFO", "--pidfile", ""]
        beat = self.start("beat", "celery", "-A", "tests.celery_app", "beat", *options, **env)
        beat.wait_for("beat: Starting...")
        return beat

    def manage(self, *arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a management command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )

    def forget_messages(self) -> int:
        """Empty the broker, as a Redis without persistence does when it dies; return the number of keys."""
        with Redis.from_url(self.broker) as redis:
            keys = list(redis.scan_iter(f"{self.prefix}*", count=1000))
            return int(redis.delete(*keys)) if keys else 0

    def queue_length(self, queue: str = "celery") -> int:
        """Return the number of messages that no worker has taken."""
        with Redis.from_url(self.broker) as redis:
            return int(redis.llen(f"{self.prefix}{queue}"))

    def queued_tasks(self) -> list[str]:
        """Return the names of the tasks that no worker has taken."""
        with Redis.from_url(self.broker) as redis:
            return [json.loads(message)["headers"]["task"] for message in redis.lrange(f"{self.prefix}celery", 0, -1)]

    def countdowns(self) -> list[str]:
        """Return the names of the tasks that workers hold until their time has come."""
        with Redis.from_url(self.broker) as redis:
            headers = [json.loads(each)[0]["headers"] for each in redis.hvals(f"{self.prefix}unacked")]
        return [each["task"] for each in headers if each.get("eta")]

    def close(self) -> None:
        """End every process and leave nothing in the broker."""
        for process in self.processes:
            process.stop()
        self.forget_messages()


@dataclass(kw_only=True)
class PrivateSite(Site):
    """A project whose servers belong to it alone."""

    servers: PrivateServers

    @property
    def environment(self) -> dict[str, str]:
        """What tells a child process to use this site."""
        return {**super().environment, **self.servers.environment}

    def close(self) -> None:
        """Kill every process: its data is thrown away."""
        for process in self.processes:
            process.kill()
        if self.servers.redis.is_running:
            self.flush_broker()

    def flush_broker(self) -> None:
        """Let the broker forget everything, also what does not belong to the queue."""
        with Redis.from_url(self.broker) as redis:
            redis.flushall()


def connect_app(app: Any, broker: str, **transport_options: Any) -> None:
    """Let an app that may have talked to one broker talk to another from now on."""
    pools.reset()
    app._pool = None
    app.amqp._producer_pool = None
    app.conf.update(broker_url=broker, broker_read_url=None, broker_write_url=broker)
    app.conf.broker_transport_options = transport_options
    publisher.start_afresh()
