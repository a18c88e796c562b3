"""The two databases of a run: made, emptied, looked into, dropped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from django.apps import apps
from django.core.management import call_command
from django.db import connections

from benchmarks import settings

LOCAL, REMOTE = "default", "remote"
#: What stays when the databases are emptied; synchro_option holds their identities.
_KEPT = {"django_migrations", "django_content_type", "auth_permission", "synchro_option"}


@contextmanager
def databases() -> Iterator[None]:
    """Make the databases, and drop them at the end."""
    try:
        for alias in (LOCAL, REMOTE):
            _on_server(f'CREATE DATABASE "{_name(alias)}"')
            call_command("migrate", database=alias, verbosity=0)
            call_command(
                "migrate", database=alias, run_syncdb=True, verbosity=0
            )  # apps without migrations point to others
            with connections[alias].schema_editor() as editor:
                for model in apps.get_models():
                    if not model._meta.managed:
                        editor.create_model(model)
        yield
    finally:
        connections.close_all()
        for alias in (LOCAL, REMOTE):
            _on_server(f'DROP DATABASE IF EXISTS "{_name(alias)}" WITH (FORCE)')


def empty() -> None:
    """Delete all rows of both databases; identities and content types stay."""
    for alias in (LOCAL, REMOTE):
        if filled := [table for table in _tables(alias) if fetch(alias, f"SELECT EXISTS (SELECT 1 FROM {table})")[0]]:
            execute(alias, f"TRUNCATE {', '.join(filled)} RESTART IDENTITY CASCADE")


def _tables(alias: str) -> list[str]:
    connection = connections[alias]
    return [connection.ops.quote_name(table) for table in connection.introspection.table_names() if table not in _KEPT]


def refuse_connections(alias: str) -> None:
    """End every connection to a database and take no more: for everybody who uses it the server is down."""
    connections[alias].close()
    _on_server(f'ALTER DATABASE "{_name(alias)}" ALLOW_CONNECTIONS false')
    _on_server(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{_name(alias)}'")


def take_connections(alias: str) -> None:
    """Take connections to a database again."""
    _on_server(f'ALTER DATABASE "{_name(alias)}" ALLOW_CONNECTIONS true')


def settle() -> None:
    """Do the housekeeping now that would otherwise begin in the middle of a measurement."""
    for alias in (LOCAL, REMOTE):
        execute(alias, "VACUUM ANALYZE")


def execute(alias: str, sql: str, *values: Any) -> None:
    """Run a statement."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, values)


def fetch(alias: str, sql: str, *values: Any) -> Any:
    """Return the first row of a query."""
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchone()


def server_version() -> str:
    """Return PostgreSQL's version."""
    return str(fetch(LOCAL, "SHOW server_version")[0])


def _name(alias: str) -> str:
    return str(settings.DATABASES[alias]["NAME"])


def _on_server(sql: str) -> None:
    with psycopg.connect(settings.POSTGRES_URL, autocommit=True) as connection:
        connection.execute(sql.encode())
