"""Two projects in processes of their own, each with its own settings and clock, that synchronize to each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from synchro.models import Attempt, ChangeLog, Option, Reference
from tests.assertions import assert_nothing_pending, assert_same_objects
from tests.databases import Pair
from tests.shop.models import Article, Playlist, Product, Song

ROOT = Path(__file__).resolve().parents[2]
DONE, NOTHING = "Synchronization performed successfully.", "No changes since last synchronization."


class Project:
    """A process whose 'default' is one of the two databases, and whose 'remote' is the other one."""

    def __init__(self, pair: Pair, *, clock: float = 0) -> None:
        environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.site_settings",
            "PYTHONPATH": str(ROOT),
            "SYNCHRO_TEST_RUN": settings.RUN,
            "SYNCHRO_TEST_LOCAL": pair.local,
            "SYNCHRO_TEST_REMOTE": pair.remote,
            "SYNCHRO_TEST_CLOCK": str(clock),
        }
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.site_process"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, name: str, *arguments: Any) -> Any:
        self.start(name, *arguments)
        return self.answer()

    def start(self, name: str, *arguments: Any) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps([name, *arguments]) + "\n")
        self.popen.stdin.flush()

    def answer(self) -> Any:
        assert self.popen.stdout is not None
        answer = json.loads(self.popen.stdout.readline() or '{"error": "the process has ended"}')
        assert "error" not in answer, answer["error"]
        return answer["result"]

    def close(self) -> None:
        self.popen.kill()
        self.popen.communicate()


Start = Callable[..., tuple[Project, Project]]


@pytest.fixture
def pair(some_pairs: Pair) -> Pair:
    return some_pairs


@pytest.fixture
def start(pair: Pair) -> Iterator[Start]:
    """Start A (default = a, remote = b) and B (default = b, remote = a), whose clock may be wrong by some minutes."""
    projects: list[Project] = []

    def _start(*, clock: float = 0) -> tuple[Project, Project]:
        projects.extend([Project(pair), Project(pair.reversed, clock=clock)])
        return projects[0], projects[1]

    yield _start
    for each in projects:
        each.close()


def until_quiet(*projects: Project) -> None:
    """Let the projects synchronize in turn until both have nothing to do; three rounds must be enough."""
    for _ in range(3):
        if {each.ask("synchronize") for each in projects} == {NOTHING}:
            return
    assert [each.ask("synchronize") for each in projects] == [NOTHING, NOTHING]


def assert_equal_and_quiet(pair: Pair, *projects: Project) -> None:
    sizes = _sizes(pair)
    for site in (pair, pair.reversed):
        with site.active():
            # A reference may be left of an object that the other side deleted before it was acknowledged here.
            assert_same_objects(Article, Playlist, Product, Song)
            assert_nothing_pending()
    assert [each.ask("synchronize") for each in (*projects, *projects)] == [NOTHING] * 4
    assert _sizes(pair) == sizes


def _sizes(pair: Pair) -> list[int]:
    tables = (ChangeLog, Attempt, Reference, Option)
    return [table.objects.using(alias).count() for alias in (pair.local, pair.remote) for table in tables]


def test_neither_project_needs_the_tasks(pair: Pair, start: Start) -> None:
    a, b = start()
    a.ask("create", "made at A")
    b.ask("create", "made at B")

    until_quiet(a, b)

    assert a.ask("titles") == b.ask("titles") == ["made at A", "made at B"]
    assert [each.ask("has_tasks") for each in (a, b)] == [False, False]


@pytest.mark.parametrize("clock", [0, -7, 7], ids=["equal clocks", "behind", "ahead"])
def test_what_two_projects_do(pair: Pair, start: Start, clock: float) -> None:
    a, b = start(clock=clock)
    a.ask("create", "made at A")
    b.ask("create", "made at B")
    until_quiet(a, b)
    assert a.ask("titles") == b.ask("titles") == ["made at A", "made at B"]

    # Different objects.
    a.ask("edit", "made at B", "1")
    b.ask("edit", "made at A", "2")
    until_quiet(a, b)
    assert a.ask("titles") == b.ask("titles") == ["1", "2"]

    # The same object, out of sight of each other: the newest by the clocks.
    a.ask("edit", "1", "1 by A")
    b.ask("edit", "1", "1 by B")
    until_quiet(a, b)
    assert a.ask("titles") == b.ask("titles") == ["1 by A" if clock < 0 else "1 by B", "2"]
    assert ChangeLog.objects.using(pair.remote if clock < 0 else pair.local).skipped().count() == 1

    # In sight of each other, whatever the clocks say.
    for number, project in enumerate((b, a, b, a)):
        project.ask("edit", "2" if number == 0 else f"2.{number}", f"2.{number + 1}")
        until_quiet(a, b)
        assert f"2.{number + 1}" in a.ask("titles")
        assert a.ask("titles") == b.ask("titles")

    # Deleted here and changed there.
    a.ask("delete", "2.4")
    b.ask("edit", "2.4", "2 by B")
    until_quiet(a, b)
    assert a.ask("titles") == b.ask("titles")
    assert len(b.ask("titles")) == (1 if clock < 0 else 2)
    assert_equal_and_quiet(pair, a, b)


@pytest.mark.parametrize("clock", [0, 3])
def test_two_projects_that_work_and_synchronize_at_the_same_time(pair: Pair, start: Start, clock: float) -> None:
    """Users on both sides change everything while both sides synchronize; when all is quiet both are equal."""
    a, b = start(clock=clock)
    for seed in range(3):
        a.start("work", 2 * seed, 60)
        b.start("work", 2 * seed + 1, 60)
        a.answer(), b.answer()
        until_quiet(a, b)
        assert_equal_and_quiet(pair, a, b)
