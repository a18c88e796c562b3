"""Keep two Django databases in step.

The public names are imported on first use, because models cannot be imported while Django loads its apps.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synchro.capture import touch
    from synchro.core import call_synchronize, renew_identity, reset_synchro
    from synchro.natural_keys import NaturalKeyModel, NaturalManager, natural_manager
    from synchro.pausing import DisableSynchroLog, disable_synchro_log

__version__ = "1.0.0a1"

__all__ = [
    "DisableSynchroLog",
    "NaturalKeyModel",
    "NaturalManager",
    "call_synchronize",
    "disable_synchro_log",
    "natural_manager",
    "renew_identity",
    "reset_synchro",
    "touch",
]

_HOMES = {
    "DisableSynchroLog": "synchro.pausing",
    "NaturalKeyModel": "synchro.natural_keys",
    "NaturalManager": "synchro.natural_keys",
    "call_synchronize": "synchro.core",
    "disable_synchro_log": "synchro.pausing",
    "natural_manager": "synchro.natural_keys",
    "renew_identity": "synchro.core",
    "reset_synchro": "synchro.core",
    "touch": "synchro.capture",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
