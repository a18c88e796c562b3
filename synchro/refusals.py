"""Rows that a PostgreSQL table refuses: the server itself finds them among many, and writes the others.

Looking for them from here would take a round trip for each part of the rows that is tried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError

#: So many rows are tried at once, and half as many after each refusal, until the one that is refused stands alone.
_TOGETHER = 32

#: What is kept of an error, by the names of psycopg's fields.
_TOLD = {
    "SQLSTATE": "RETURNED_SQLSTATE",
    "MESSAGE_PRIMARY": "MESSAGE_TEXT",
    "MESSAGE_DETAIL": "PG_EXCEPTION_DETAIL",
    "TABLE_NAME": "TABLE_NAME",
    "COLUMN_NAME": "COLUMN_NAME",
    "CONSTRAINT_NAME": "CONSTRAINT_NAME",
}


class Refusals(dict[int, Exception]):
    """The errors of rows that were left out, by the rows' positions."""

    def __init__(self, is_of_row: Callable[[Exception], bool]) -> None:
        """Take the errors that ``is_of_row`` says yes to; others are raised."""
        super().__init__()
        self.is_of_row = is_of_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Insertion:
    """An INSERT of staged rows, in SQL."""

    stage: str
    table: str
    columns: str
    conflict: str
    returning: str

    def sql(self, where: str = "") -> str:
        """Return the statement."""
        returning = f"RETURNING {self.returning}" if self.returning else ""
        return (
            f"INSERT INTO {self.table} ({self.columns}) SELECT {self.columns} FROM {self.stage} {where} "
            f"{self.conflict} {returning}"
        )

    def search(self) -> str:
        """Return the statements that insert all rows but those that are refused, and then tell about these.

        Staged rows are found by their places in the temporary table, which are in the order in which they came.
        """
        insert = self.sql(
            "WHERE ctid BETWEEN synchro_places[synchro_first]"
            " AND synchro_places[least(synchro_first + synchro_many - 1, synchro_last)]"
        )
        returned = ""
        if self.returning:
            returned = f"""
            CREATE TEMPORARY TABLE {self.stage}_returned ON COMMIT DROP AS
                SELECT {self.returning} FROM {self.table} WITH NO DATA;
            ALTER TABLE {self.stage}_returned ADD COLUMN synchro_number serial;
            """
            insert = (
                f"WITH written AS ({insert}) "
                f"INSERT INTO {self.stage}_returned ({self.returning}) SELECT {self.returning} FROM written"
            )
        told = ", ".join(f"synchro_{each}" for each in _TOLD)
        return f"""
            {returned}
            CREATE TEMPORARY TABLE {self.stage}_refused (
                number integer, {", ".join(f"{each} text" for each in _TOLD)}
            ) ON COMMIT DROP;
            DO $synchro$
            #variable_conflict use_column
            DECLARE
                synchro_places tid[] := ARRAY(SELECT ctid FROM {self.stage} ORDER BY ctid);
                synchro_last integer := cardinality(synchro_places);
                synchro_first integer := 1;
                synchro_many integer := {_TOGETHER};
                {" ".join(f"synchro_{each} text;" for each in _TOLD)}
            BEGIN
                WHILE synchro_first <= synchro_last LOOP
                    BEGIN
                        {insert};
                        synchro_first := synchro_first + synchro_many;
                    EXCEPTION WHEN OTHERS THEN
                        IF synchro_many > 1 THEN
                            synchro_many := synchro_many / 2;
                        ELSE
                            GET STACKED DIAGNOSTICS
                                {", ".join(f"synchro_{each} = {item}" for each, item in _TOLD.items())};
                            INSERT INTO {self.stage}_refused VALUES (synchro_first, {told});
                            synchro_first := synchro_first + 1;
                            synchro_many := {_TOGETHER};
                        END IF;
                    END;
                END LOOP;
            END $synchro$;
            SELECT * FROM {self.stage}_refused ORDER BY number
        """


def execute_sparing(cursor: Any, connection: Any, insertion: Insertion, refusals: Refusals) -> None:
    """Insert what is staged, without the rows that the table refuses; leave what was returned to be fetched.

    Raises:
        DatabaseError: one that is not of a row.
    """
    try:
        # It is released with the caller's.
        cursor.execute(f"SAVEPOINT {insertion.stage}; {insertion.sql()}")
        cursor.nextset()
    except DatabaseError as error:
        if not refusals.is_of_row(error):
            raise
    else:
        return
    cursor.execute(f"ROLLBACK TO SAVEPOINT {insertion.stage}; {insertion.search()}")
    while cursor.nextset():
        pass
    for number, *told in cursor.fetchall():
        refusal = _error(connection, dict(zip(_TOLD, told, strict=True)))
        if not refusals.is_of_row(refusal):
            raise refusal
        refusals[number - 1] = refusal
    if insertion.returning:
        cursor.execute(f"SELECT {insertion.returning} FROM {insertion.stage}_returned ORDER BY synchro_number")


def _error(connection: Any, told: dict[str, str]) -> DatabaseError:
    """Return the error as the driver and Django would have raised it."""
    driver = connection.Database
    try:
        driver_class = driver.errors.lookup(told["SQLSTATE"])
    except KeyError:
        driver_class = driver.DatabaseError
    fields = driver.pq.DiagnosticField
    info = dict.fromkeys(fields) | {fields[name]: text.encode() for name, text in told.items()}
    try:
        with connection.wrap_database_errors:
            raise driver_class(told["MESSAGE_PRIMARY"], info=info)
    except DatabaseError as error:
        return error
