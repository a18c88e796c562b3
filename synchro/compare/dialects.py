"""How servers of each vendor compute checksums. Both sides must be of one vendor, and make the same of the same values.

Whatever a server cannot hash faithfully must look different, never the same: then the rows are compared one by one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import connections

#: Rows of 2 to the power of this many neighbouring keys are one group.
SHIFT = 5


class Dialect:
    """The SQL of one vendor."""

    #: How the values of each type of column are hashed.
    casts: dict[str, str]
    number: str
    #: A kind of primary key that may be larger than such a number.
    refused_key = ""
    text: str
    peer: str
    #: Groups, with the number and the hash of their rows.
    digest: str
    #: What is said first in the transaction of such a statement.
    prelude = ""
    #: Shows what the server makes of values.
    probe: str

    def suits(self, connection: Any) -> bool:
        """Tell whether the server is new enough."""
        return True

    def zone(self, connection: Any) -> str:
        """Return the zone in which the same moment is the same value."""
        return ""

    def row(self, columns: Collection[str]) -> str:
        """Return the hash of a row."""
        raise NotImplementedError

    def join(self, alias: str, column: str, type_id: int, collation: str) -> str:
        """Return how a LOCAL key becomes REMOTE's.

        Args:
            collation: that of the references' keys; empty for the database's own.
        """
        raise NotImplementedError

    def remote_key(self, alias: str) -> str:
        """Return REMOTE's key that a join has found."""
        raise NotImplementedError


class PostgreSQL(Dialect):
    """Values are hashed by value, and text byte by byte whatever its collation."""

    number = "{}::bigint"
    text = "'{}'::text"
    peer = "%s::uuid"
    casts = {
        **dict.fromkeys(("smallint", "integer", "bigint", "serial", "bigserial", "smallserial"), number),
        **dict.fromkeys(("varchar", "text", "char", "character varying"), '({}::text COLLATE "C")'),
        **dict.fromkeys(("boolean", "date", "uuid", "bytea", "jsonb", "inet", "interval", "double precision"), "{}"),
        **dict.fromkeys(("timestamp with time zone", "timestamp without time zone", "time"), "{}"),
        **dict.fromkeys(("time without time zone", "numeric"), "{}"),
    }
    digest = f"""
        SELECT bucket, count(*), bit_xor(hash) FROM (
            SELECT ({{key}}) >> {SHIFT} AS bucket, {{row}} AS hash
            FROM {{table}} t {{joins}} WHERE t.{{pk}} >= %s AND t.{{pk}} < %s OFFSET 0
        ) hashed GROUP BY bucket
    """
    prelude = "SET LOCAL jit = off"  # compiling such a statement takes longer than running it
    probe = """
        SELECT hash_record_extended(ROW(
            1::bigint, ('ä'::text COLLATE "C"), 1.50::numeric, 0.1::double precision, true, date '2020-02-29',
            timestamptz '2020-02-29 12:00:00.5+00', time '12:00:00.5', interval '1 day 2 hours', '\\x00ff'::bytea,
            '9d2c2f1a-0000-4000-8000-00000000cafe'::uuid, '{"a": [1, null]}'::jsonb, inet '192.0.2.1'
        ), 0)
    """

    def suits(self, connection: Any) -> bool:
        """Tell whether the server has hash_record_extended and bit_xor, which are new in version 14."""
        return bool(connection.pg_version >= 140_000)

    def row(self, columns: Collection[str]) -> str:
        """Return the hash of a row."""
        return f"hash_record_extended(ROW({', '.join(columns)}), 0)"

    def join(self, alias: str, column: str, type_id: int, collation: str) -> str:
        """Look each key up in the index, so that the time needed grows with the rows of a range.

        A join would read all the references for every range. It is the first one from the key on, as only one index has
        that order: asked for the very key, a planner that knows nothing of the table may choose the index of REMOTE's
        keys, and read all of it.
        """
        return (
            "LEFT JOIN LATERAL ("
            f"SELECT CASE WHEN local_object_id = t.{column}::text THEN remote_object_id::bigint END AS key FROM ("
            f"SELECT r.local_object_id, r.remote_object_id FROM synchro_reference r WHERE r.peer = {self.peer} "
            f"AND r.content_type_id = {type_id} AND r.local_object_id >= t.{column}::text "
            f"ORDER BY r.local_object_id LIMIT 1) nearest) {alias} ON true"
        )

    def remote_key(self, alias: str) -> str:
        """Return REMOTE's key that a join has found."""
        return f"{alias}.key"


class MySQL(Dialect):
    """MariaDB and MySQL: a row is the MD5 of its values as text, that of long values by their own MD5.

    What is too long for the server's packets is NULL for it, and must not be the same as anything.
    """

    number = "CAST({} AS SIGNED)"
    refused_key = "PositiveBigIntegerField"
    text = "'{}'"
    peer = "%s"
    _as_text = "CAST({0} AS CHAR)"
    _hashed = "IF({0} IS NULL, NULL, COALESCE(MD5({1}), CONCAT('X', UUID())))"
    _bytes = _hashed.format("{0}", "CAST({0} AS BINARY)")
    _characters = _hashed.format("{0}", "CAST(CONVERT({0} USING utf8mb4) AS BINARY)")
    casts = {
        **dict.fromkeys(("smallint", "integer", "bigint", "bool"), _as_text),
        **dict.fromkeys(("smallint UNSIGNED", "integer UNSIGNED", "bigint UNSIGNED"), _as_text),
        **dict.fromkeys(("smallint AUTO_INCREMENT", "integer AUTO_INCREMENT", "bigint AUTO_INCREMENT"), _as_text),
        **dict.fromkeys(("date", "datetime", "time", "numeric", "double precision", "uuid"), _as_text),
        **dict.fromkeys(("varchar", "char", "longtext", "json"), _characters),
        **dict.fromkeys(("longblob",), _bytes),
    }
    digest = f"""
        SELECT IF(k < 0, -((-(k + 1)) DIV {1 << SHIFT}) - 1, k DIV {1 << SHIFT}) AS bucket, COUNT(*), BIT_XOR(hash)
        FROM (
            SELECT {{key}} AS k, {{row}} AS hash FROM {{table}} t {{joins}} WHERE t.{{pk}} >= %s AND t.{{pk}} < %s
        ) hashed GROUP BY bucket
    """
    probe = """
        SELECT CONCAT_WS('|', CAST(0.1e0 AS CHAR), CAST(1e22 AS CHAR), CAST(1.50 AS CHAR), MD5('a'),
            CAST(CAST('2020-02-29 12:00:00.5' AS DATETIME(6)) AS CHAR))
    """

    def zone(self, connection: Any) -> str:
        """Moments are kept in the zone of the connection."""
        return str(connection.timezone_name)

    def row(self, columns: Collection[str]) -> str:
        """Return the hash of a row."""
        values = ", ".join(f"COALESCE(CAST({each} AS CHAR), 'N')" for each in columns)
        digest = f"CAST(CONV(LEFT(MD5(CONCAT_WS('|', {values})), 16), 16, 10) AS UNSIGNED)"
        return f"COALESCE({digest}, CAST(CONV(LEFT(MD5(CONCAT('X', UUID())), 16), 16, 10) AS UNSIGNED))"

    def join(self, alias: str, column: str, type_id: int, collation: str) -> str:
        """Look each key up in the one index that has this order."""
        return (
            f"LEFT JOIN synchro_reference {alias} FORCE INDEX (synchro_reference_unique_local) "
            f"ON {alias}.peer = {self.peer} AND {alias}.content_type_id = {type_id} "
            f"AND {alias}.local_object_id = CONVERT(CAST(t.{column} AS CHAR) USING utf8mb4) COLLATE {collation}"
        )

    def remote_key(self, alias: str) -> str:
        """Return REMOTE's key that a join has found."""
        return self.number.format(f"{alias}.remote_object_id")


_DIALECTS = {"postgresql": PostgreSQL(), "mysql": MySQL()}


def common(*aliases: str) -> Dialect | None:
    """Return the dialect of all databases; None where they have none in common, or read the same values differently."""
    dialects, answers = set(), set()
    for alias in aliases:
        connection = connections[alias]
        dialect = _DIALECTS.get(connection.vendor)
        if dialect is None or not dialect.suits(connection):
            return None
        dialects.add(dialect)
        with connection.cursor() as cursor:
            cursor.execute(dialect.probe)
            answers.add((*cursor.fetchone(), dialect.zone(connection)))
    return dialects.pop() if len(dialects) == len(answers) == 1 else None
