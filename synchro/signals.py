"""Signals that synchro sends."""

from __future__ import annotations

from django.dispatch import Signal

#: Sent after a transaction on LOCAL that logged changes has committed. ``sender`` is ``ChangeLog``; ``using`` is
#: LOCAL's alias; ``objects`` is a list of ``(model_label, object_id)``, each object once. Receivers cannot disturb the
#: code that made the change: what they raise is logged. It is a wake-up call: an object whose savepoint was rolled back
#: may be named too.
changes_logged = Signal()

#: Sent after changes have arrived on REMOTE and LOCAL knows it. ``sender`` is ``ChangeLog``; ``using`` is LOCAL's
#: alias; ``objects`` is a list of ``(model_label, object_id)``, up to a batch at once. What a receiver raises is logged
#: and disturbs nobody, but the worker waits for it; the same goes for the signals below.
object_synced = Signal()

#: Sent after an attempt at objects has failed and was recorded. ``sender`` is ``ChangeLog``; ``using`` and ``objects``
#: are as above; ``reason`` is a sentence without values of rows; ``given_up`` tells whether they are not tried any more
#: until they change or an operator asks for it.
object_failed = Signal()

#: Sent once when something begins to be held back that concerns more than an object. ``sender`` is ``Hold``; ``using``
#: is LOCAL's alias; ``label`` is 'app.ModelName', or '' for REMOTE as a whole; ``reason`` is a sentence.
synchro_alarm = Signal()

#: Sent to have a comparison done in the background. ``request`` holds the fields of ``synchro.compare.Request``,
#: ``pace`` the arguments ``batch_size`` and ``sleep`` of ``synchro.compare.run``. A receiver returns whether it has
#: queued it.
comparison_requested = Signal()
