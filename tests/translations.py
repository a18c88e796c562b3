"""The translations as a wheel ships them, compiled for a test from the committed .po files."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from django.test import override_settings

from hatch_build import compile_catalogue

ROOT = Path(__file__).resolve().parents[1]


def catalogues() -> list[Path]:
    """Return the .po files of both packages."""
    return sorted(ROOT.glob("synchro*/locale/*/LC_MESSAGES/django.po"))


@contextmanager
def translated(folder: Path) -> Iterator[None]:
    """Use the translations of the synchro package, compiled into an empty folder."""
    shutil.copytree(ROOT / "synchro" / "locale", folder, ignore=shutil.ignore_patterns("*.mo"), dirs_exist_ok=True)
    for source in folder.rglob("*.po"):
        compile_catalogue(source)
    with override_settings(LOCALE_PATHS=[folder]):
        yield
