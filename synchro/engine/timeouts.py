"""Bounds for waiting on REMOTE where the project has set none: a host that is switched off refuses nothing.

They concern only connections of the engine. Settings of the project, in whatever place its driver reads them, win.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, TypeVar

from django.db.backends.base.base import BaseDatabaseWrapper

#: Seconds until a host that does not answer counts as away, and until a statement is given up.
CONNECT = 5
STATEMENT = 60
#: Seconds after which a server that should have given up a statement, and has not said so, counts as standing still:
#: its machine goes on confirming whatever is sent, so that nobody else notices.
GRACE = 30
#: The same for a driver that knows nothing else. Longer than the longest wait for a lock (of the server, or ours),
#: whose own error says more.
SILENCE = STATEMENT + GRACE

T = TypeVar("T")
_Wrapper = TypeVar("_Wrapper", bound=BaseDatabaseWrapper)
_Params = dict[str, Any]

_SET_STATEMENT_TIMEOUT = (
    "SELECT set_config('statement_timeout', %s, false) WHERE current_setting('statement_timeout') = '0'"
)
_STATEMENT_TIMEOUT = "SELECT setting::integer FROM pg_settings WHERE name = 'statement_timeout'"


def bounded(connection: _Wrapper) -> _Wrapper:
    """Let nothing on a connection wait for ever. Takes effect when it is opened the next time."""
    wrapper: Any = connection
    if not hasattr(wrapper, "_synchro_bounded"):
        wrapper._synchro_bounded = True
        modules = {each.__module__ for each in type(connection).__mro__}
        if "django.db.backends.postgresql.base" in modules:
            _bound_postgresql(wrapper)
        elif "django.db.backends.mysql.base" in modules:
            _add_params(wrapper, _mysql_defaults)
    return connection


def _bound_postgresql(wrapper: Any) -> None:
    _add_params(wrapper, _postgresql_defaults)
    if wrapper.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
        return  # behind a pooler whose sessions others use, too
    init_connection_state = wrapper.init_connection_state

    def with_statement_timeout() -> None:
        init_connection_state()
        with wrapper.cursor() as cursor:
            cursor.execute(_SET_STATEMENT_TIMEOUT, [f"{STATEMENT}s"])
            cursor.execute(_STATEMENT_TIMEOUT)
            (milliseconds,) = cursor.fetchone()
        _bound_silence(wrapper.connection, milliseconds / 1000 + GRACE)

    wrapper.init_connection_state = with_statement_timeout


def _bound_silence(connection: Any, seconds: float) -> None:
    """Let psycopg 3 wait no longer than this for a sign of life; psycopg 2 waits where nobody can reach it."""
    wait = getattr(type(connection), "wait", None)
    if wait is not None:
        connection.wait = lambda steps, **options: wait(connection, _answered(steps, connection, seconds), **options)


def _answered(steps: Generator[Any, int, T], connection: Any, seconds: float) -> Generator[Any, int, T]:
    """Take psycopg's steps of talking to the server, and close the connection if it is silent for too long.

    Psycopg looks after its steps many times a second, also when there is nothing ready to be read or written.
    """
    deadline = monotonic() + seconds
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if ready:
                deadline = monotonic() + seconds
            elif monotonic() > deadline:
                connection.close()
                raise connection.OperationalError("The server has not answered.")
            wanted = steps.send(ready)
    except StopIteration as end:
        result: T = end.value
        return result


def _add_params(wrapper: Any, defaults: Callable[[_Params], _Params]) -> None:
    get_connection_params = wrapper.get_connection_params

    def with_defaults() -> _Params:
        params: _Params = get_connection_params()
        return {**defaults(params), **params}

    wrapper.get_connection_params = with_defaults


def _postgresql_defaults(params: _Params) -> _Params:
    if "service" in params:  # a file that may have them
        return {}
    defaults = {
        "connect_timeout": CONNECT,
        # The network is silent although something was sent, or while an answer is awaited.
        "tcp_user_timeout": 1000 * 30,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    if "PGCONNECT_TIMEOUT" in os.environ:
        del defaults["connect_timeout"]
    return defaults


def _mysql_defaults(params: _Params) -> _Params:
    if "read_default_file" in params:
        return {}
    return {"connect_timeout": CONNECT, "read_timeout": SILENCE, "write_timeout": SILENCE}
