"""Compile the translations while the package is built, so that no binary file is committed."""

from pathlib import Path
from typing import Any

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CATALOGUES = "synchro*/locale/*/LC_MESSAGES/*.po"


def compile_catalogue(source: Path) -> Path:
    """Write the .mo beside its .po and return its path; entries marked fuzzy stay out, as with msgfmt."""
    language = source.parent.parent.name
    with source.open("rb") as stream:
        catalogue = read_po(stream, locale=language)
    target = source.with_suffix(".mo")
    with target.open("wb") as stream:
        write_mo(stream, catalogue)
    return target


class CompileTranslations(BuildHookInterface[Any]):
    """Runs for wheels and editable installs; the sdist carries the sources only."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        for source in sorted(root.glob(CATALOGUES)):
            build_data["artifacts"].append(compile_catalogue(source).relative_to(root).as_posix())
