"""Fixtures of all tests: two databases that commit for real.

No transaction wraps a test: deferred constraints, threads, workers and hooks on commit must act as in production.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery.signals import before_task_publish
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from pytest_django import DjangoDbBlocker

from tests.databases import VENDORS, Pair, all_pairs, drop_all, prepare, vendor_of
from tests.running import Queued

pytest.register_assert_rewrite("tests.assertions")

SQLITE = Pair("sqlite_a", "sqlite_b")
POSTGRES = Pair("postgres_a", "postgres_b")
MARIADB = Pair("mariadb_a", "mariadb_b")
MIXED = Pair("postgres_a", "mariadb_b")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "postgres: needs PostgreSQL")
    config.addinivalue_line("markers", "mariadb: needs MariaDB or MySQL")
    config.addinivalue_line("markers", "redis: needs Redis, and starts processes")
    config.addinivalue_line("markers", "mutants: breaks the protocol in real processes, and takes minutes")


def _param(pair: Pair) -> object:
    vendors = {vendor_of(pair.local), vendor_of(pair.remote)} - {"sqlite"}
    return pytest.param(pair, id=str(pair), marks=[getattr(pytest.mark, vendor) for vendor in sorted(vendors)])


@pytest.fixture(scope="session")
def django_db_setup(django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Replace pytest-django's way: databases are made one by one when a test needs them, and dropped at the end."""
    yield
    with django_db_blocker.unblock():
        drop_all()


@pytest.fixture
def unblocked(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Allow database access. A test asks for this alone when it wants none of the pairs."""
    with django_db_blocker.unblock():
        yield
        for connection in connections.all(initialized_only=True):
            if connection.in_atomic_block:
                connection.close()


def _open(pair: Pair) -> Iterator[Pair]:
    prepare(pair.local)
    prepare(pair.remote)
    with pair.active():
        yield pair


@pytest.fixture(params=[_param(SQLITE), _param(POSTGRES)])
def pair(request: pytest.FixtureRequest, unblocked: None) -> Iterator[Pair]:
    """LOCAL and REMOTE, empty: once on SQLite, once on PostgreSQL. The normal fixture of an integration test."""
    yield from _open(request.param)


@pytest.fixture(params=[_param(each) for each in (SQLITE, POSTGRES, MARIADB)])
def each_vendor(request: pytest.FixtureRequest, unblocked: None) -> Iterator[Pair]:
    """LOCAL and REMOTE of one vendor, for each vendor."""
    yield from _open(request.param)


@pytest.fixture(params=[_param(each) for each in (SQLITE, POSTGRES, MARIADB, MIXED)])
def some_pairs(request: pytest.FixtureRequest, unblocked: None) -> Iterator[Pair]:
    """Each vendor with itself, and one with another: for tests that cost too much for all nine pairs."""
    yield from _open(request.param)


@pytest.fixture(params=[_param(each) for each in all_pairs()])
def every_pair(request: pytest.FixtureRequest, unblocked: None) -> Iterator[Pair]:
    """All nine pairs of vendors, for values and relations."""
    yield from _open(request.param)


@pytest.fixture
def sqlite_pair(unblocked: None) -> Iterator[Pair]:
    """Two SQLite files, where the vendor does not matter."""
    yield from _open(SQLITE)


@pytest.fixture(params=[_param(POSTGRES)])
def postgres_pair(request: pytest.FixtureRequest, unblocked: None) -> Iterator[Pair]:
    """Two PostgreSQL databases, for row locks and processes."""
    yield from _open(request.param)


@pytest.fixture(params=[_param(POSTGRES), _param(MARIADB)])
def server_pair(request: pytest.FixtureRequest, unblocked: None) -> Iterator[Pair]:
    """LOCAL and REMOTE on a server, where rows are locked one by one."""
    yield from _open(request.param)


@pytest.fixture(params=[_param(Pair(f"{vendor}_a", f"{vendor}_bare")) for vendor in VENDORS])
def bare_pair(request: pytest.FixtureRequest, unblocked: None) -> Iterator[Pair]:
    """A REMOTE that synchro was never migrated to, for each vendor."""
    yield from _open(request.param)


@pytest.fixture
def stale_type(sqlite_pair: Pair) -> Iterator[ContentType]:
    """The content type of a model that is no longer installed."""
    stale = ContentType.objects.create(app_label="shop", model="bygone")
    yield stale
    stale.delete()


#: The fixtures that open a pair, of which pytest-django's use the first one that a test asks for.
PAIR_FIXTURES = (
    *("pair", "each_vendor", "some_pairs", "every_pair"),
    *("sqlite_pair", "postgres_pair", "server_pair", "bare_pair"),
)


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> Queued:
    """The tasks that are published from now on; no broker gets them."""
    found: Queued = []

    def publish(task: Any, calls: Any, **options: Any) -> bool:
        if calls:
            found.append((task.name, list(calls)))
        return True

    monkeypatch.setattr("synchro_tasks.publisher.publish", publish)
    return found


@pytest.fixture
def retried() -> Iterator[list[dict[str, Any]]]:
    """The headers of the messages by which Celery retries."""
    headers: list[dict[str, Any]] = []

    def note(sender: str, headers: dict[str, Any], **kwargs: Any) -> None:
        if headers["retries"]:
            sent.append(headers)

    sent = headers
    before_task_publish.connect(note)
    yield headers
    before_task_publish.disconnect(note)


@pytest.fixture
def db(request: pytest.FixtureRequest) -> None:
    """Let pytest-django's fixtures (admin_user, admin_client) use LOCAL of the test's pair, or of the SQLite pair."""
    chosen = [name for name in PAIR_FIXTURES if name in request.fixturenames]
    request.getfixturevalue(chosen[0] if chosen else "sqlite_pair")
