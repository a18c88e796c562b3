"""Make, empty and drop the databases of a test run. Each is made when the first test asks for it."""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.postgres.signals import get_hstore_oids
from django.core.management import call_command
from django.core.management.sql import emit_post_migrate_signal
from django.db import connections, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.test import override_settings

from synchro.engine import holds
from tests import servers

VENDORS = ("sqlite", "postgres", "mariadb")

#: What stays in a database between two tests.
KEPT_TABLES = {"django_migrations", "django_content_type", "auth_permission"}

#: The first automatic pk on the second database of each vendor: a copied pk must not be right by accident.
FIRST_PK = {"a": 1, "b": 1001, "bare": 2001, "local": 1, "remote": 1001}


@dataclass(frozen=True)
class Pair:
    """The aliases of LOCAL and REMOTE."""

    local: str
    remote: str

    @property
    def reversed(self) -> Pair:
        """The pair as REMOTE's own project sees it."""
        return Pair(local=self.remote, remote=self.local)

    def __str__(self) -> str:
        return f"{vendor_of(self.local)}-to-{vendor_of(self.remote)}"

    @contextmanager
    def active(self) -> Iterator[Pair]:
        """Make SYNCHRO_LOCAL and SYNCHRO_REMOTE name this pair."""
        with override_settings(SYNCHRO_LOCAL=self.local, SYNCHRO_REMOTE=self.remote):
            yield self


def vendor_of(alias: str) -> str:
    """Return 'sqlite', 'postgres' or 'mariadb'."""
    return alias.partition("_")[0]


def prepare(alias: str) -> None:
    """Make the database of the alias if this run has not made it, and empty it.

    A server that does not answer skips the test, or fails it where CI=true.
    """
    if alias not in connections.settings:
        reason = servers.missing[vendor_of(alias)]
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    _create(alias)
    empty(alias)


def add(alias: str, server: dict[str, Any]) -> None:
    """Let an alias name a database on a server that was not there when the settings were read."""
    name = f"synchro_test_{settings.RUN}_{alias}"
    connections.settings |= connections.configure_settings({"default": {}, alias: {**server, "NAME": name}}) | {
        "default": connections.settings["default"]
    }


def forget(alias: str) -> None:
    """Forget a database whose server is about to go."""
    for connection in connections.all(initialized_only=True):
        if connection.alias == alias:
            connection.close()
    connections.settings.pop(alias)
    _created.pop(alias, None)


def discard(alias: str) -> None:
    """Have an SQLite database made anew for the next test: this one is not what it was made as."""
    connections[alias].close()
    Path(connections[alias].settings_dict["NAME"]).unlink()
    del _created[alias]
    apps.get_model("contenttypes", "ContentType").objects.clear_cache()


def drop_all() -> None:
    """Drop every database that this run has made."""
    connections.close_all()
    for alias in _created:
        suffix = " WITH (FORCE)" if vendor_of(alias) == "postgres" else ""
        for name in ("{name}", connections[alias].ops.quote_name(backup_name(alias))):
            on_server(alias, f"DROP DATABASE IF EXISTS {name}{suffix}")
    connections.close_all()
    _created.clear()
    shutil.rmtree(settings.DIRECTORY, ignore_errors=True)


def backup_name(alias: str) -> str:
    """Return the name of the database's backup, which goes with it."""
    return f"{connections[alias].settings_dict['NAME']}_backup"


def empty(alias: str) -> None:
    """Delete all rows but those of content types, permissions and migrations, and restart the automatic pks."""
    holds._met.clear()  # as in a new process,
    holds._has_looked = True  # which has begun to work when nothing was held
    connection = connections[alias]
    connection._synchro_identity = None, None  # type: ignore[attr-defined]  # as after a restore, which ends connections
    filled = _filled_tables(connection)
    if not filled:
        return
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"TRUNCATE {', '.join(map(connection.ops.quote_name, filled))} RESTART IDENTITY CASCADE")
        elif connection.vendor == "sqlite":
            for table in filled:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
            _restart_pks(connection, filled)
    if connection.vendor == "mysql":
        with connection.constraint_checks_disabled(), connection.cursor() as cursor:
            for table in filled:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(table)}")
            _restart_pks(connection, filled)


_created: dict[str, list[str]] = {}


def _create(alias: str) -> None:
    if alias in _created:
        return
    settings.DIRECTORY.mkdir(exist_ok=True)
    suffix = " CHARACTER SET utf8mb4" if vendor_of(alias) == "mariadb" else ""
    on_server(alias, "DROP DATABASE IF EXISTS {name}")
    on_server(alias, "CREATE DATABASE {name}" + suffix)
    connection = connections[alias]
    has_hstore = connection.vendor == "postgresql" and _add_hstore(connection)
    call_command("migrate", database=alias, verbosity=0, interactive=False)
    with connection.schema_editor() as editor:
        for model in _models_without_migrations(alias):
            if has_hstore or model._meta.label != "arrays.Mapped":
                editor.create_model(model)
    _created[alias] = [table for table in connection.introspection.table_names() if table not in KEPT_TABLES]
    _shift_pks(connection)


def _add_hstore(connection: BaseDatabaseWrapper) -> bool:
    """Add the extension if the server has it, and tell whether it has.

    Connects anew: Django asks each new connection once for the type's number.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'hstore'")
        if cursor.fetchone() is None:
            return False
        cursor.execute("CREATE EXTENSION hstore")
    connection.close()
    get_hstore_oids.cache_clear()  # type: ignore[attr-defined]
    return True


def _shift_pks(connection: BaseDatabaseWrapper) -> None:
    """Start the automatic pks elsewhere, and give content types and permissions other ids than elsewhere."""
    alias = connection.alias
    if _first_pk(connection) == 1:
        return
    with connection.cursor() as cursor:
        for table in ("auth_permission", "django_content_type"):
            cursor.execute(f"DELETE FROM {table}")
    _restart_pks(connection, connection.introspection.table_names())
    apps.get_model("contenttypes", "ContentType").objects.clear_cache()
    emit_post_migrate_signal(verbosity=0, interactive=False, db=alias)


def _restart_pks(connection: BaseDatabaseWrapper, tables: list[str]) -> None:
    first = _first_pk(connection)
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            for table in tables:
                cursor.execute("DELETE FROM sqlite_sequence WHERE name = %s", [table])
                if first > 1:
                    cursor.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (%s, %s)", [table, first - 1])
        elif connection.vendor == "postgresql":
            for table in tables:
                for sequence in connection.introspection.get_sequences(cursor, table):
                    name = connection.ops.quote_name(sequence["name"])
                    cursor.execute(f"ALTER SEQUENCE {name} START WITH {first} RESTART WITH {first}")
        else:
            for table in _tables_with_counter(connection, tables):
                cursor.execute(f"ALTER TABLE {connection.ops.quote_name(table)} AUTO_INCREMENT = {first}")


def _first_pk(connection: BaseDatabaseWrapper) -> int:
    return FIRST_PK[connection.alias.partition("_")[2]]


def _tables_with_counter(connection: BaseDatabaseWrapper, tables: list[str]) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND extra = 'auto_increment'"
        )
        return [table for (table,) in cursor.fetchall() if table in tables]


def _filled_tables(connection: BaseDatabaseWrapper) -> list[str]:
    tables = _created[connection.alias]
    columns = ", ".join(f"EXISTS (SELECT 1 FROM {connection.ops.quote_name(table)})" for table in tables)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns}")
        return [table for table, filled in zip(tables, cursor.fetchone(), strict=True) if filled]


def _models_without_migrations(alias: str) -> list[type[Model]]:
    """Return the models of the test project, also the unmanaged ones: somebody has to make their tables."""
    return [
        model
        for label in settings.TEST_APPS
        for model in apps.get_app_config(label).get_models()
        if not model._meta.proxy and router.allow_migrate_model(alias, model) and _has_features_of(model, alias)
    ]


def _has_features_of(model: type[Model], alias: str) -> bool:
    features = connections[alias].features
    return all(getattr(features, name) for name in model._meta.required_db_features)


def on_server(alias: str, sql: str) -> None:
    """Run a statement about the whole database from outside of it."""
    if vendor_of(alias) == "sqlite":
        return
    connection = connections[alias]
    connection.close()
    with connection._nodb_cursor() as cursor:
        cursor.execute(sql.format(name=connection.ops.quote_name(connection.settings_dict["NAME"])))


@functools.cache
def all_pairs() -> list[Pair]:
    """Return the nine pairs of vendors."""
    return [Pair(f"{local}_a", f"{remote}_b") for local in VENDORS for remote in VENDORS]
