"""Remembering that rows which REMOTE has already are the copies of LOCAL objects, without touching the rows."""

from __future__ import annotations

from collections.abc import Sequence

from synchro.engine import locks
from synchro.engine.acknowledge import write_references
from synchro.engine.link import Link, one_process, remote_transaction
from synchro.engine.resolve import find
from synchro.keys import pk_to_text
from synchro.registry import ModelClass


def adopt(link: Link, model: ModelClass, object_ids: Sequence[str]) -> None:
    """Write the references and mirrors of objects whose counterparts were found by a key.

    The counterparts are looked for again under the lock of the protocol, so that no worker adds an object meanwhile.
    """
    with one_process(link):
        with remote_transaction(link, model):
            mirrors = locks.lock_objects(link, model, object_ids)
            found = find(link, model, object_ids, mirrors=mirrors)
            keys = {each: pk_to_text(model, pk) for each, pk in found.pks.items()}
            unknown = {each: key for each, key in keys.items() if each in mirrors and mirrors[each].key != key}
            unused = {each for each, mirror in mirrors.items() if mirror.key is None and each not in keys}
            locks.drop_mirrors(link, model, mirrors, unused | found.ghosts)
            locks.write_mirrors(link, model, mirrors, unknown, added={})
        write_references(link, model, keys, are_mirrored=link.has_mirrors)
