"""Which database servers and brokers this test run can use, and why not the others."""

from __future__ import annotations

import functools
import os
from typing import Any
from urllib.parse import unquote, urlsplit

PATIENCE = 2  # seconds for a server to answer before it counts as missing

POSTGRES_URL = os.environ.get("SYNCHRO_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
MARIADB_URL = os.environ.get("SYNCHRO_MARIADB", "mysql://root@127.0.0.1:3306/")
REDIS_URL = os.environ.get("SYNCHRO_REDIS", "redis://127.0.0.1:6379/15")

#: Why a vendor is missing, for the reason of a skipped test.
missing: dict[str, str] = {}


@functools.cache
def postgres() -> dict[str, Any] | None:
    """Return the connection settings of PostgreSQL without the database's name; None if it does not answer."""
    try:
        import psycopg

        with psycopg.connect(POSTGRES_URL, connect_timeout=PATIENCE):
            pass
    except Exception as error:  # the driver is missing, the URL is wrong, nobody answers: all mean "not here"
        missing["postgres"] = f"PostgreSQL at {POSTGRES_URL}: {error}"
        return None
    # A test's data need not survive a power failure.
    return {**postgres_at(POSTGRES_URL), "OPTIONS": {"options": "-c synchronous_commit=off"}}


def postgres_at(url: str) -> dict[str, Any]:
    """Return the connection settings of the PostgreSQL at an address without the database's name."""
    from psycopg.conninfo import conninfo_to_dict

    parts: dict[str, Any] = conninfo_to_dict(url)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": parts.get("host", ""),
        "PORT": str(parts.get("port", "")),
        "USER": parts.get("user", ""),
        "PASSWORD": parts.get("password", ""),
    }


@functools.cache
def mariadb() -> dict[str, Any] | None:
    """Return the connection settings of MariaDB or MySQL without the database's name; None if it does not answer."""
    url = urlsplit(MARIADB_URL)
    try:
        import pymysql  # type: ignore[import-untyped]

        pymysql.install_as_MySQLdb()
        login = {
            "host": url.hostname or "127.0.0.1",
            "port": url.port or 3306,
            "user": unquote(url.username or "root"),
            "password": unquote(url.password or ""),
        }
        pymysql.connect(**login, connect_timeout=PATIENCE).close()
    except Exception as error:  # as above
        missing["mariadb"] = f"MariaDB at {MARIADB_URL}: {error}"
        return None
    return {
        "ENGINE": "django.db.backends.mysql",
        **{name.upper(): value for name, value in login.items()},
        "OPTIONS": {"charset": "utf8mb4"},
    }


@functools.cache
def redis() -> str | None:
    """Return the URL of Redis; None if it does not answer."""
    try:
        from redis import Redis

        with Redis.from_url(REDIS_URL, socket_connect_timeout=PATIENCE, socket_timeout=PATIENCE) as client:
            client.ping()
    except Exception as error:  # as above
        missing["redis"] = f"Redis at {REDIS_URL}: {error}"
        return None
    return REDIS_URL
