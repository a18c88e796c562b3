"""Database settings from a URL."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def database(url: str) -> dict[str, Any]:
    """Return Django's settings for ``postgresql://user:password@host:port/name`` or ``sqlite:////absolute/path``."""
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return sqlite(unquote(parts.path.removeprefix("/")))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.removeprefix("/"),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": parts.hostname or "",
        "PORT": parts.port or "",
        # A host that never answers must not hold a worker for ever.
        "OPTIONS": {"connect_timeout": 5, "options": "-c statement_timeout=60s"},
    }


def sqlite(path: str) -> dict[str, Any]:
    """Return the settings with which several processes share one file: readers never wait, writers queue up."""
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": Path(path),
        "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"},
    }
