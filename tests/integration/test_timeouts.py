"""A REMOTE that says nothing keeps nobody waiting for long."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from django.db import OperationalError, connections

from synchro import engine
from synchro.engine import timeouts
from synchro.engine.timeouts import bounded
from synchro.exceptions import Held
from synchro.models import Hold
from tests import factories
from tests.assertions import assert_same_on_remote
from tests.databases import Pair
from tests.roads import sync
from tests.vendors import only_on


@pytest.fixture
def silent_port() -> Iterator[int]:
    """The port of a server that takes connections and never says a word."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield server.getsockname()[1]


@pytest.fixture
def remote(each_vendor: Pair) -> Iterator[Any]:
    """REMOTE's connection as the engine opens it, without what earlier tests did to it."""
    wrapper: Any = connections[each_vendor.remote]
    wrapper.close()
    for name in ("_synchro_bounded", "get_connection_params", "init_connection_state"):
        wrapper.__dict__.pop(name, None)
    yield wrapper
    wrapper.close()


@only_on("postgres", "mariadb")
def test_a_silent_remote_is_away(
    each_vendor: Pair, remote: Any, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    article = factories.article()
    monkeypatch.setattr(timeouts, "CONNECT", 2)
    monkeypatch.setattr(timeouts, "SILENCE", 2)

    with monkeypatch.context() as patched:
        patched.setitem(remote.settings_dict, "HOST", "127.0.0.1")
        patched.setitem(remote.settings_dict, "PORT", silent_port)
        started = time.monotonic()
        with pytest.raises(Held):
            engine.sync_object("shop.Article", str(article.pk))
        assert time.monotonic() - started < 10

    assert Hold.objects.held().exists()
    sync()
    assert_same_on_remote(article)


@only_on("postgres")
def test_a_statement_on_remote_ends_after_a_while(
    each_vendor: Pair, remote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "STATEMENT", 1)
    sync()

    with remote.cursor() as cursor, pytest.raises(OperationalError, match="statement timeout"):
        cursor.execute("SELECT pg_sleep(30)")


@only_on("mariadb")
def test_a_statement_on_remote_that_says_nothing_ends_after_a_while(
    each_vendor: Pair, remote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeouts, "SILENCE", 1)
    sync()

    with remote.cursor() as cursor, pytest.raises(OperationalError):
        cursor.execute("SELECT SLEEP(30)")


@only_on("postgres")
def test_what_the_project_sets_for_postgresql_wins(
    each_vendor: Pair, remote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"options": "-c statement_timeout=7s", "connect_timeout": 3, "keepalives_idle": 40}
    monkeypatch.setitem(remote.settings_dict, "OPTIONS", options)
    sync()

    params = remote.connection.info.get_parameters()
    assert (params["connect_timeout"], params["keepalives_idle"], params["tcp_user_timeout"]) == ("3", "40", "30000")
    with remote.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("7s",)


@only_on("postgres")
def test_sessions_that_a_pooler_hands_around_are_left_as_they_are(
    each_vendor: Pair, remote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(remote.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    sync()

    with remote.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


@only_on("postgres")
def test_what_may_be_set_elsewhere_is_not_guessed(
    each_vendor: Pair, remote: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "9")
    bounded(remote)

    assert "connect_timeout" not in remote.get_connection_params()
    assert timeouts._postgresql_defaults({"service": "remote"}) == {}
    assert timeouts._mysql_defaults({"read_default_file": "/etc/mysql/my.cnf"}) == {}


@only_on("mariadb")
def test_what_the_project_sets_for_mysql_wins(each_vendor: Pair, remote: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(remote.settings_dict, "OPTIONS", {"charset": "utf8mb4", "read_timeout": 7})

    params = bounded(remote).get_connection_params()

    assert (params["connect_timeout"], params["read_timeout"], params["write_timeout"]) == (5, 7, 90)


def test_local_and_settings_are_left_alone(each_vendor: Pair, remote: Any) -> None:
    connections[each_vendor.local].close()
    del connections[each_vendor.local]  # which other tests have used as REMOTE
    before = {**remote.settings_dict, "OPTIONS": {**remote.settings_dict["OPTIONS"]}}
    sync()

    assert not hasattr(connections[each_vendor.local], "_synchro_bounded")
    assert {key: remote.settings_dict[key] for key in before} == before
