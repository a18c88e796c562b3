"""Backups of a database, to be put back when it has gone on, and copies of another one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.db.backends.utils import CursorWrapper

from tests.databases import backup_name, on_server


class Backup:
    """A copy of a database. Whoever uses the database must connect anew when it is put back."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.name = _name(alias)
        self.copy = backup_name(alias)

    def make(self) -> None:
        """Copy the database as it is now."""
        _copy(self.alias, self.name, self.copy)

    def restore(self) -> None:
        """Put the copy in the place of the database."""
        _copy(self.alias, self.copy, self.name)


def replace(alias: str, *, by: str) -> None:
    """Make a database a copy of another one on its server, which has the same tables."""
    connections[by].close()
    _copy(alias, _name(by), _name(alias))


def _name(alias: str) -> str:
    return str(connections[alias].settings_dict["NAME"])


def _copy(alias: str, source: str, target: str) -> None:
    connection = connections[alias]
    connection.close()
    if connection.vendor == "sqlite":
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as write:
            read.backup(write)
    elif connection.vendor == "postgresql":
        # A database that is copied must have no other sessions either.
        on_server(alias, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{source}'")
        on_server(alias, f'DROP DATABASE IF EXISTS "{target}" WITH (FORCE)')
        on_server(alias, f'CREATE DATABASE "{target}" TEMPLATE "{source}"')
    else:
        on_server(alias, f"CREATE DATABASE IF NOT EXISTS `{target}` CHARACTER SET utf8mb4")
        with connection.constraint_checks_disabled(), connection.cursor() as cursor:
            _copy_tables(alias, cursor, source, target)
        connection.close()
    ContentType.objects.clear_cache()


def _copy_tables(alias: str, cursor: CursorWrapper, source: str, target: str) -> None:
    """Give the tables of a MariaDB database the rows and counters of another one's, and make those that it lacks."""
    columns = dict(_writable_columns(cursor, source))
    for table in columns.keys() - _counters(cursor, target).keys():
        cursor.execute(f"CREATE TABLE `{target}`.`{table}` LIKE `{source}`.`{table}`")
    filled = {database: _filled(cursor, database, list(columns)) for database in (source, target)}
    with transaction.atomic(using=alias):
        for table in filled[target]:
            cursor.execute(f"DELETE FROM `{target}`.`{table}`")
        for table in filled[source]:
            names = columns[table]
            cursor.execute(f"INSERT INTO `{target}`.`{table}` ({names}) SELECT {names} FROM `{source}`.`{table}`")
    before = _counters(cursor, target)
    for table, counter in _counters(cursor, source).items():
        if counter != before[table]:
            cursor.execute(f"ALTER TABLE `{target}`.`{table}` AUTO_INCREMENT = {counter}")


def _writable_columns(cursor: CursorWrapper, database: str) -> Iterator[tuple[str, str]]:
    cursor.execute(
        "SELECT table_name, GROUP_CONCAT(CONCAT('`', column_name, '`')) FROM information_schema.columns "
        "WHERE table_schema = %s AND is_generated = 'NEVER' GROUP BY table_name",
        [database],
    )
    yield from cursor.fetchall()


def _counters(cursor: CursorWrapper, database: str) -> dict[str, int | None]:
    """Return the next automatic primary key of every table; None where there is no such key."""
    cursor.execute(
        "SELECT table_name, auto_increment FROM information_schema.tables WHERE table_schema = %s", [database]
    )
    return dict(cursor.fetchall())


def _filled(cursor: CursorWrapper, database: str, tables: list[str]) -> list[str]:
    cursor.execute("SELECT " + ", ".join(f"EXISTS (SELECT 1 FROM `{database}`.`{table}`)" for table in tables))
    return [table for table, filled in zip(tables, cursor.fetchone(), strict=True) if filled]
