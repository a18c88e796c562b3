"""What a piece of code asks a database for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections
from django.test.utils import CaptureQueriesContext

#: Statements that start and end a transaction or a savepoint, which no query budget counts.
FRAME = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET ")


@contextmanager
def queries(using: str) -> Iterator[list[str]]:
    """Collect the statements that the block sends to one database.

    Without those that frame transactions, and without the question that each connection asks once.
    """
    found: list[str] = []
    with CaptureQueriesContext(connections[using]) as captured:
        yield found
    found.extend(sql for each in captured.captured_queries if (sql := _counted(each["sql"])))


def _counted(sql: str) -> str:
    if sql.startswith(("SAVEPOINT", "ROLLBACK TO")):  # what is sent along counts
        sql = sql.partition("; ")[2]
    return "" if sql.startswith(FRAME) or "has_database_privilege" in sql else sql


def kinds(statements: list[str]) -> list[str]:
    """Return 'INSERT shop_article' and the like for each statement."""
    return [_kind(statement) for statement in statements]


def _kind(statement: str) -> str:
    words = statement.replace('"', "").replace("`", "").split()
    if words[0].upper() == "DECLARE":  # a cursor on the server, which reads what its SELECT says
        words = words[words.index("SELECT") :]
    verb = words[0].upper()
    if verb in ("CREATE", "COPY"):  # a temporary table, whose name is numbered
        table = words[words.index("TABLE") + 1] if verb == "CREATE" else words[1]
        return f"{verb} {table.rstrip('0123456789_')}"
    before = {"INSERT": "INTO", "DELETE": "FROM", "SELECT": "FROM", "UPDATE": "UPDATE"}[verb]
    table = words[[word.upper() for word in words].index(before) + 1]
    return f"{verb} {table.split('(')[0]}"
