"""The link between the two databases: who they are, and a transaction on REMOTE that other workers respect."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from django.db import DatabaseError, connections, transaction

from synchro import rows
from synchro.conf import conf
from synchro.exceptions import SameIdentity, SynchroError, TransientError
from synchro.models import Option, Reference
from synchro.registry import ModelClass

#: Key of the advisory lock on REMOTE that lets one process apply at a time where REMOTE lacks synchro's tables.
_ADVISORY_KEY = 0x53594E4348524F
_ADVISORY_NAME = "django-synchro"
_ADVISORY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Link:
    """LOCAL and REMOTE, by alias and by identity."""

    local: str
    remote: str
    local_identity: uuid.UUID
    remote_identity: uuid.UUID

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
    link = Link(local, remote, identity(local), _remote_identity(remote))
    if link.local_identity == link.remote_identity:
        raise SameIdentity
    if link.has_mirrors and link not in _named:
        _name_anonymous_references(link)
        _named.add(link)
    return link


def identity(using: str) -> uuid.UUID:
    """Return the identity of a database with synchro's tables; it gets one when it is first asked."""
    found = Option.objects.using(using).filter(key=Option.IDENTITY).values_list("value", flat=True)
    if not (value := found.first()):
        own = Option(key=Option.IDENTITY, value=str(uuid.uuid4()))
        rows.insert(Option, [own], using=using, ignore_conflicts=True)
        value = found.get()
    return uuid.UUID(value)


def renew_identity(using: str) -> uuid.UUID:
    """Give a database that was restored from a copy of another one an identity of its own, and return it."""
    fresh = uuid.uuid4()
    Option.objects.using(using).update_or_create(key=Option.IDENTITY, defaults={"value": str(fresh)})
    return fresh


@contextmanager
def remote_transaction(link: Link, model: ModelClass) -> Iterator[None]:
    """Open the transaction on REMOTE in which a batch of one model is applied.

    Where REMOTE has synchro's tables, workers exclude each other object by object (see locks). Elsewhere there is no row to lock
    before an object is added, so one process applies at a time. SQLite has one writer at a time anyway, provided that the
    transaction begins with a write: one that reads first cannot become a writer later.
    """
    connection = connections[link.remote]
    with _one_process(link), transaction.atomic(using=link.remote):
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)} WHERE 1 = 0")
        elif connection.vendor == "postgresql" and not link.has_mirrors:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ADVISORY_KEY])
        yield


def _one_process(link: Link) -> AbstractContextManager[None]:
    vendor = connections[link.remote].vendor
    if link.has_mirrors or vendor in ("sqlite", "postgresql"):
        return nullcontext()
    if vendor == "mysql":
        return _named_lock(link.remote)
    raise SynchroError(f"REMOTE ({vendor}) needs synchro's tables: run 'manage.py migrate --database {link.remote}'.")


@contextmanager
def _named_lock(using: str) -> Iterator[None]:
    """Hold MySQL's named lock, which goes with the connection; it must outlive the transaction."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, %s)", [_ADVISORY_NAME, _ADVISORY_SECONDS])
        if not cursor.fetchone()[0]:
            raise TransientError("Another process has been applying changes to REMOTE for a minute. Trying again later.")
    try:
        yield
    finally:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT RELEASE_LOCK(%s)", [_ADVISORY_NAME])


def _remote_identity(using: str) -> uuid.UUID:
    connection: Any = connections[using]
    guard = transaction.atomic(using=using) if connection.in_atomic_block else nullcontext()
    try:
        with guard:
            return identity(using)
    except DatabaseError:
        if Reference._meta.db_table in connection.introspection.table_names():
            raise
        return Reference.ANONYMOUS


def _name_anonymous_references(link: Link) -> None:
    """Give references that were made while REMOTE had no tables the identity that it has now."""
    Reference.objects.using(link.local).filter(peer=Reference.ANONYMOUS).update(peer=link.remote_identity)
