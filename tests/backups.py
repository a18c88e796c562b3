"""Backups of a database, to be put back when it has gone on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from django.db import connections

from tests.databases import on_server, vendor_of


class Backup:
    """A copy of an SQLite or PostgreSQL database. Whoever uses the database must connect anew when it is put back."""

    def __init__(self, alias: str, directory: Path) -> None:
        self.alias = alias
        self.name = str(connections[alias].settings_dict["NAME"])
        is_file = vendor_of(alias) == "sqlite"
        self.copy = str(directory / f"{alias}.sqlite3") if is_file else f"{self.name}_backup"

    def make(self) -> None:
        """Copy the database as it is now."""
        self._copy(self.name, self.copy)

    def restore(self) -> None:
        """Put the copy in the place of the database."""
        self._copy(self.copy, self.name)

    def drop(self) -> None:
        """Remove the copy."""
        if vendor_of(self.alias) == "postgres":
            on_server(self.alias, f'DROP DATABASE IF EXISTS "{self.copy}"')

    def _copy(self, source: str, target: str) -> None:
        connections[self.alias].close()
        if vendor_of(self.alias) == "postgres":
            # A database that is copied must have no other sessions either.
            on_server(self.alias, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{source}'")
            on_server(self.alias, f'DROP DATABASE IF EXISTS "{target}" WITH (FORCE)')
            on_server(self.alias, f'CREATE DATABASE "{target}" TEMPLATE "{source}"')
            return
        with closing(sqlite3.connect(source)) as read, closing(sqlite3.connect(target)) as write:
            read.backup(write)
