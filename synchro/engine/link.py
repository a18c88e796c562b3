"""The link between the two databases: who they are, and a transaction on REMOTE that other workers respect."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.core.files import locks
from django.db import DatabaseError, connections, transaction
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from synchro import rows
from synchro.conf import conf
from synchro.engine.timeouts import bounded
from synchro.exceptions import SameIdentity, SynchroError, TransientError
from synchro.models import Option, Reference, ReferenceRow
from synchro.registry import ModelClass

#: Statements that take and release a lock which belongs to the session: 0 means that it was not to be had.
_NAMED_LOCKS = {
    "postgresql": (
        "SELECT pg_advisory_lock(hashtext('django-synchro'))::text",
        "SELECT pg_advisory_unlock(hashtext('django-synchro'))",
    ),
    "mysql": ("SELECT GET_LOCK('django-synchro', 60)", "SELECT RELEASE_LOCK('django-synchro')"),
}
_MIRRORS_AT_ONCE = 1000
_BUSY = "Another process has been applying changes to REMOTE for a minute. They are tried again later."


@dataclass(frozen=True, slots=True)
class Link:
    """LOCAL and REMOTE, by alias and by identity."""

    local: str
    remote: str
    local_identity: uuid.UUID
    remote_identity: uuid.UUID
    #: Give up waiting for a row that somebody else has locked after a second: it is known that there is one.
    is_impatient: bool = False
    #: Take a REMOTE row with the same automatic primary key for the counterpart: REMOTE began as a copy of LOCAL.
    adopts_pks: bool = False

    @property
    def impatient(self) -> Link:
        """The same link for who knows that somebody has locked rows of REMOTE."""
        return replace(self, is_impatient=True)

    @property
    def has_mirrors(self) -> bool:
        """Whether REMOTE has synchro's tables: mirror references, and a log of its own."""
        return self.remote_identity != Reference.ANONYMOUS


#: Links whose references from before REMOTE had an identity have been taken over in this process.
_named: set[Link] = set()


def open_link() -> Link:
    """Return the link that the settings describe.

    Raises:
        NoRemote: SYNCHRO_REMOTE is not set.
        SameIdentity: both databases say that they are the same one.
        DatabaseError: one of them cannot be reached.
    """
    local, remote = conf.local, conf.require_remote()
    link = Link(local, remote, identity(local), remote_identity(remote))
    if link.local_identity == link.remote_identity:
        raise SameIdentity
    if link.has_mirrors and link not in _named:
        _take_over_references(link)
        _name_peer(link)
        _named.add(link)
    return link


def peer_of(using: str) -> uuid.UUID | None:
    """Return the identity of the database that this one's own project synchronizes to; None where it only logs."""
    found = Option.objects.using(using).filter(key=Option.PEER).values_list("value", flat=True)
    return uuid.UUID(value) if (value := found.first()) else None


def identity(using: str) -> uuid.UUID:
    """Return the identity of a database with synchro's tables; it gets one when it is first asked.

    It is remembered as long as the connection lasts.
    """
    connection: Any = connections[using]
    connection.ensure_connection()
    session, known = getattr(connection, "_synchro_identity", (None, None))
    if known is None or session is not connection.connection:
        known = _read_identity(using)
        connection._synchro_identity = connection.connection, known
    return known


def _read_identity(using: str) -> uuid.UUID:
    found = Option.objects.using(using).filter(key=Option.IDENTITY).values_list("value", flat=True)
    if not (value := found.first()):
        own = Option(key=Option.IDENTITY, value=str(uuid.uuid4()))
        rows.insert(Option, [own], using=using, ignore_conflicts=True)
        value = found.get()
    return uuid.UUID(value)


def renew_identity(using: str) -> uuid.UUID:
    """Give a database an identity under which nobody knows it, and return it."""
    fresh = uuid.uuid4()
    now = timezone.now().isoformat()
    with transaction.atomic(using=using):
        # What a peer wrote here it has acknowledged under the old identity.
        Reference.objects.using(using).filter(mirrored_as=None).update(mirrored_as=identity(using))
        for key, value in ((Option.IDENTITY, str(fresh)), (Option.RENEWED, now)):
            Option.objects.using(using).update_or_create(key=key, defaults={"value": value})
    connections[using]._synchro_identity = None, None  # type: ignore[attr-defined]
    return fresh


def renewed_at(using: str) -> datetime | None:
    """Return when a database got a new identity, under which nobody can have known it before."""
    found = Option.objects.using(using).filter(key=Option.RENEWED).values_list("value", flat=True)
    return parse_datetime(value) if (value := found.first()) else None


def was_reset(using: str) -> bool:
    """Tell whether a database has ever forgotten its references, which are the mirrors of its peer."""
    return Option.objects.using(using).filter(key=Option.RESET).exists()


@contextmanager
def remote_transaction(link: Link, model: ModelClass) -> Iterator[None]:
    """Open the transaction on REMOTE in which a batch of one model is applied.

    SQLite has no row locks but one writer at a time, provided that the transaction begins with a write: one that reads
    first cannot become a writer later.
    """
    connection = connections[link.remote]
    with transaction.atomic(using=link.remote):
        if connection.vendor == "mysql":
            _be_strict(connection)
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)} WHERE 1 = 0")
        with _impatience(connection) if link.is_impatient else nullcontext():
            yield


@contextmanager
def _impatience(connection: Any) -> Iterator[None]:
    """Wait a second for a lock and no longer: PostgreSQL in this transaction, MariaDB and MySQL in this block."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('lock_timeout', '1s', true) WHERE current_setting('lock_timeout') = '0'")
        yield
    elif connection.vendor == "mysql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@innodb_lock_wait_timeout")
            (seconds,) = cursor.fetchone()
            cursor.execute("SET innodb_lock_wait_timeout = 1")
        try:
            yield
        finally:
            with suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute(f"SET innodb_lock_wait_timeout = {seconds}")
    else:
        yield


def foreign_keys_unchecked(using: str) -> AbstractContextManager[Any]:
    """Let foreign keys point to nothing for a moment where each row is checked; other vendors check at the commit."""
    connection = connections[using]
    deferred = connection.features.can_defer_constraint_checks
    return nullcontext() if deferred else connection.constraint_checks_disabled()


@contextmanager
def one_process(link: Link) -> Iterator[None]:
    """Let one process at a time apply and acknowledge where REMOTE lacks synchro's tables; elsewhere do nothing.

    There is no row on REMOTE to lock before an object is added, and only LOCAL's reference tells that it has been: so
    the lock must outlive the acknowledgement. It goes with its holder's connection or, on SQLite, with the process.
    """
    vendor = connections[link.remote].vendor
    if link.has_mirrors:
        yield
    elif vendor in _NAMED_LOCKS:
        with _named_lock(link.remote, *_NAMED_LOCKS[vendor]):
            yield
    elif vendor == "sqlite":
        with open(f"{connections[link.remote].settings_dict['NAME']}.synchro-lock", "w") as file:
            locks.lock(file, locks.LOCK_EX)
            yield
    else:
        raise SynchroError(
            f"REMOTE ({vendor}) needs synchro's tables: run 'manage.py migrate --database {link.remote}'."
        )


@contextmanager
def _named_lock(using: str, acquire: str, release: str) -> Iterator[None]:
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(acquire)
        if cursor.fetchone()[0] == 0:
            raise TransientError(_BUSY)
    try:
        yield
    finally:
        if connection.connection is not None:
            with suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute(release)


def remote_identity(using: str) -> uuid.UUID:
    """Return the identity of a database that may lack synchro's tables."""
    connection: Any = bounded(connections[using])
    connection.ensure_connection()  # one that is away is not asked for its tables
    guard = transaction.atomic(using=using) if connection.in_atomic_block else nullcontext()
    try:
        with guard:
            return identity(using)
    except DatabaseError:
        if Reference._meta.db_table in connection.introspection.table_names():
            raise
        return Reference.ANONYMOUS


def _be_strict(connection: Any) -> None:
    """Let MariaDB or MySQL refuse what it would otherwise cut or bend to fit the column."""
    if (
        "STRICT_" not in connection.sql_mode
        and getattr(connection, "_synchro_strict", None) is not connection.connection
    ):
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')")
        connection._synchro_strict = connection.connection


def _name_peer(link: Link) -> None:
    """Note on LOCAL where its log goes, for the peer to know."""
    if peer_of(link.local) != link.remote_identity:
        options = Option.objects.using(link.local)
        options.update_or_create(key=Option.PEER, defaults={"value": str(link.remote_identity)})


def _take_over_references(link: Link) -> None:
    """Give references that were made while REMOTE had no tables the identity that it has now, and REMOTE their mirrors.

    The mirrors come first, so that a crash in between only means to begin again.
    """
    anonymous = Reference.objects.using(link.local).filter(peer=Reference.ANONYMOUS)
    for type_id in anonymous.order_by().values_list("content_type_id", flat=True).distinct():
        model = ContentType.objects.db_manager(link.local).get_for_id(type_id).model_class()
        if model is None:
            continue
        remote_type_id = ContentType.objects.db_manager(link.remote).get_for_model(model).pk
        pairs: Any = anonymous.filter(content_type_id=type_id).values_list("remote_object_id", "local_object_id")
        for batch in rows.batched(pairs.iterator(), _MIRRORS_AT_ONCE):
            mirrors = [ReferenceRow(remote_type_id, link.local_identity, *pair) for pair in batch]
            rows.insert(Reference, mirrors, using=link.remote, ignore_conflicts=True)
    anonymous.update(peer=link.remote_identity)
