"""Signals that synchro sends."""

from __future__ import annotations

from django.dispatch import Signal

#: Sent after a transaction on LOCAL that logged changes has committed. ``sender`` is ``ChangeLog``; ``using`` is
#: LOCAL's alias; ``objects`` is a list of ``(model_label, object_id)``, each object once. Receivers cannot disturb the
#: code that made the change: what they raise is logged. It is a wake-up call: an object whose savepoint was rolled back
#: may be named too.
changes_logged = Signal()
