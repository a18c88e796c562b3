from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest
from django.conf import settings
from pytest_django import DjangoDbBlocker

from devtools.processes import Failure
from tests import servers
from tests.acceptance.processes import PrivateSite, Site, connect_app
from tests.celery_app import app
from tests.databases import Pair, add, forget, prepare
from tests.private import LOCAL, REMOTE, PrivateServers


@pytest.fixture
def site(postgres_pair: Pair, tmp_path: Path) -> Iterator[Site]:
    """Two PostgreSQL databases and Redis; the test starts the workers. What the test saves is published to them."""
    broker = servers.redis()
    if broker is None:
        give_up(servers.missing["redis"])
    yield from _open(Site(postgres_pair, broker, tmp_path))


@pytest.fixture(scope="session")
def private_servers(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[PrivateServers]:
    """Servers that the tests may stop, freeze and kill."""
    try:
        private = PrivateServers()
    except Failure as error:
        give_up(str(error))
    try:
        private.start()
        with django_db_blocker.unblock():
            add(LOCAL, servers.postgres_at(private.local.url))
            add(REMOTE, servers.postgres_at(private.remote.url))
            yield private
            forget(LOCAL)
            forget(REMOTE)
    finally:
        private.close()


@pytest.fixture
def private_site(private_servers: PrivateServers, unblocked: None, tmp_path: Path) -> Iterator[PrivateSite]:
    """A site on servers that the test may stop, freeze and kill; they run again when the next test begins."""
    private_servers.start()
    pair = Pair(LOCAL, REMOTE)
    prepare(pair.local)
    prepare(pair.remote)
    with pair.active():
        yield from _open(PrivateSite(pair, private_servers.redis.url, tmp_path, servers=private_servers))


S = TypeVar("S", bound=Site)


def _open(site: S) -> Iterator[S]:
    options = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, "global_keyprefix": site.prefix}
    connect_app(app, site.broker, **options)
    yield site
    site.close()
    connect_app(app, settings.CELERY_BROKER_URL, **settings.CELERY_BROKER_TRANSPORT_OPTIONS)


def give_up(reason: str) -> NoReturn:
    """Skip where a server is missing; fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
