"""The commands of compose.yaml start the example as they are written there, on the servers of this test run.

What differs from the containers: the addresses of the servers, and free ports on loopback.
"""

from __future__ import annotations

import os
import re
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import urlopen

import psycopg
import pytest
from psycopg import sql
from redis import Redis
from ruamel.yaml import YAML

from tests import servers

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "example"
SERVICES: dict[str, dict[str, Any]] = YAML(typ="safe").load((ROOT / "compose.yaml").read_text("utf-8"))["services"]
PATIENCE = 60  # seconds for a process to become healthy
#: An operator's wish, so that beat has something to do while the test waits.
OFTEN = "from django_celery_beat.models import IntervalSchedule; IntervalSchedule.objects.update(every=2)"


@dataclass
class Example:
    """The example on this machine: what compose.yaml says, with this machine's addresses."""

    local: str
    remote: str
    broker: str
    logs: Path
    ports: dict[str, int] = field(default_factory=lambda: {"8000": free_port(), "5555": free_port()})
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def environment(self, service: str) -> dict[str, str]:
        """The variables that compose.yaml sets, secrets made up, addresses mapped."""
        addresses = {
            "LOCAL_DATABASE_URL": self.local,
            "REMOTE_DATABASE_URL": self.remote,
            "CELERY_BROKER_URL": self.broker,
        }
        written = SERVICES[service]["environment"]
        values = {name: re.sub(r"\$\{(\w+):\?[^}]+\}", made_up, value) for name, value in written.items()}
        assert set(addresses) <= set(values)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        image = {"PATH": path, "PYTHONPATH": str(ROOT), "HOSTNAME": socket.gethostname()}
        if "FLOWER_DB" in values:
            values["FLOWER_DB"] = str(self.logs / "flower")
        return {**inherited(), **image, **values, **addresses}

    def here(self, text: str) -> str:
        """A command with this machine's ports, bound to loopback."""
        for written, port in self.ports.items():
            text = re.sub(rf"\b{written}\b", str(port), text)
        return text.replace("0.0.0.0", "127.0.0.1").replace("$$", "$")

    def log(self, service: str) -> str:
        return (self.logs / f"{service}.log").read_text("utf-8", errors="replace")

    def start(self, service: str) -> subprocess.Popen[bytes]:
        """Start a service's command the way Docker does: words in a list, no shell of ours."""
        with (self.logs / f"{service}.log").open("wb") as log:
            process = subprocess.Popen(
                words(self.here(SERVICES[service]["command"])),
                cwd=EXAMPLE,
                env=self.environment(service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running[service] = process
        return process

    def is_healthy(self, service: str) -> bool:
        """Run the service's own healthcheck."""
        kind, *test = SERVICES[service]["healthcheck"]["test"]
        command = [self.here(word) for word in test]
        if kind == "CMD-SHELL":
            command = ["sh", "-c", *command]
        environment = self.environment(service)
        done = subprocess.run(command, cwd=EXAMPLE, env=environment, capture_output=True, check=False, timeout=PATIENCE)
        return done.returncode == 0

    def wait_until_healthy(self, service: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self.is_healthy(service):
            assert self.running[service].poll() is None, f"{service} ended:\n{self.log(service)}"
            assert time.monotonic() < deadline, f"{service} is not healthy:\n{self.log(service)}"
            time.sleep(0.5)

    def manage(self, *arguments: str) -> str:
        """What `docker compose exec web python manage.py ...` prints."""
        command = ["python", "manage.py", *arguments]
        environment = self.environment("web")
        done = subprocess.run(command, cwd=EXAMPLE, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        """End what was started, beginning with a friendly word."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 10
        for process in self.running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def require(name: str, server: object) -> None:
    """Skip where a server does not answer; fail in CI."""
    if server is None:
        give_up = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        give_up(servers.missing[name])


def words(command: str) -> list[str]:
    """Split a command like Docker: quotes hold words together."""
    return shlex.split(command)


def made_up(match: re.Match[str]) -> str:
    return f"{match[1].lower()}-{secrets.token_hex(4)}"


def inherited() -> dict[str, str]:
    """This process's environment without what would change the example."""
    return {name: value for name, value in os.environ.items() if name not in {"DJANGO_SETTINGS_MODULE", "DEBUG"}}


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def database(name: str) -> Iterator[str]:
    """Make a PostgreSQL database, yield its URL, drop it."""
    identifier = sql.Identifier(name)
    with psycopg.connect(servers.POSTGRES_URL, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(identifier))
        try:
            yield urlunsplit(urlsplit(servers.POSTGRES_URL)._replace(path=f"/{name}"))
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(identifier))


@contextmanager
def empty_broker() -> Iterator[str]:
    """Find a database of Redis that nobody uses, yield its URL, empty it."""
    server = urlsplit(servers.REDIS_URL)
    for number in range(14, 0, -1):
        url = urlunsplit(server._replace(path=f"/{number}"))
        with Redis.from_url(url) as client:
            if client.dbsize() == 0:
                try:
                    yield url
                finally:
                    client.flushdb()
                return
    pytest.fail("every database of Redis is in use")


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """Both databases migrated by the service `migrate`; web, worker, beat and Flower started."""
    require("postgres", servers.postgres())
    require("redis", servers.redis())
    run = secrets.token_hex(4)
    with (
        database(f"synchro_compose_{run}_a") as local,
        database(f"synchro_compose_{run}_b") as remote,
        empty_broker() as broker,
    ):
        example = Example(local, remote, broker, tmp_path_factory.mktemp("compose"))
        try:
            assert example.start("migrate").wait(PATIENCE) == 0, example.log("migrate")
            example.manage("shell", "--command", OFTEN)
            for service in ("web", "worker", "beat", "flower"):
                example.start(service)
            yield example
        finally:
            example.stop()


@pytest.mark.parametrize("service", ["web", "worker", "beat", "flower"])
def test_it_becomes_healthy(example: Example, service: str) -> None:
    example.wait_until_healthy(service)


def test_the_site_answers(example: Example) -> None:
    example.wait_until_healthy("web")
    with urlopen(f"http://127.0.0.1:{example.ports['8000']}/admin/login/", timeout=10) as page:
        text = page.read().decode()
    (style,) = re.findall(r'href="(/static/admin/css/base[^"]*)"', text)
    with urlopen(f"http://127.0.0.1:{example.ports['8000']}{style}", timeout=10) as sheet:
        assert sheet.status == 200


def test_flower_asks_for_the_password(example: Example) -> None:
    example.wait_until_healthy("flower")
    with pytest.raises(HTTPError, match="401"):
        urlopen(f"http://127.0.0.1:{example.ports['5555']}/", timeout=10)


def test_a_save_arrives_on_remote(example: Example) -> None:
    example.wait_until_healthy("worker")
    example.manage(
        "shell", "--command", "from atlas.models import Continent; Continent(code='AN', name='Antarctica').save()"
    )
    count = "from atlas.models import Continent; print(Continent.objects.using('remote').filter(code='AN').count())"
    deadline = time.monotonic() + PATIENCE
    while example.manage("shell", "--verbosity", "0", "--command", count).strip() != "1":
        assert time.monotonic() < deadline, example.log("worker")
