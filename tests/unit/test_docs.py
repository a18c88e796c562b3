"""The documentation names what exists: settings with their defaults, pages, commands, messages."""

import ast
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.test import override_settings

from synchro.conf import conf

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)(?:#([^)]*))?\)")
SETTING_ROW = re.compile(r"^\| `(SYNCHRO_\w+)` \| `([^`]+)` \|", re.M)


def settings_in(page: str) -> dict[str, str]:
    """The settings and defaults of a page's table."""
    return dict(SETTING_ROW.findall((ROOT / page).read_text(encoding="utf-8")))


def settings_in_code() -> set[str]:
    files = [path for package in ("synchro", "synchro_tasks") for path in (ROOT / package).rglob("conf.py")]
    return {name for path in files for name in re.findall(r'"(SYNCHRO_[A-Z_]+)"', path.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("page", ["README.md", "docs/install.md"])
def test_every_setting_is_in_the_table(page: str) -> None:
    assert set(settings_in(page)) == settings_in_code()


@pytest.mark.parametrize(("name", "default"), settings_in("README.md").items())
@pytest.mark.filterwarnings("ignore:SYNCHRO_REMOTE is not set:RuntimeWarning")  # said wherever it is missing
def test_defaults_are_true(name: str, default: str) -> None:
    with override_settings(**{name: None}):
        delattr(settings, name)
        value = getattr(conf, name.removeprefix("SYNCHRO_").lower())
    assert ast.literal_eval(default) == (value.days if isinstance(value, timedelta) else value)


def test_every_check_is_in_the_table() -> None:
    table = re.findall(r"^\| (`.*?`) \|", (ROOT / "docs" / "install.md").read_text(encoding="utf-8"), re.M)
    documented = {check for cell in table for check in check_ids(cell)}
    assert documented == {f"{app}.{check}" for app in ("synchro", "synchro_tasks") for check in checks_of(app)}


def check_ids(cell: str) -> list[str]:
    """The ids in a cell; `a.E006` to `a.E010` means those between, too."""
    found = re.findall(r"`(\w+)\.([EW])(\d+)`", cell)
    if " to " not in cell:
        return [f"{app}.{kind}{number}" for app, kind, number in found]
    (app, kind, first), (_, _, last) = found
    return [f"{app}.{kind}{number:03d}" for number in range(int(first), int(last) + 1)]


def checks_of(app: str) -> set[str]:
    return set(re.findall(r'"(?:\w+\.)?([EW]\d{3})"', (ROOT / app / "checks.py").read_text(encoding="utf-8")))


def test_both_tables_say_the_same() -> None:
    assert settings_in("README.md") == settings_in("docs/install.md")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        path = page.parent / target
        assert path.exists(), target
        if anchor:
            assert anchor in anchors(path), f"{target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that forges and Sphinx make of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_begins_with_the_two_commands() -> None:
    head = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## ")[0]
    commands = re.findall(r"^python3 dev\.py (\w+)", head, re.M)
    assert commands == ["demo", "test"]
    dev = (ROOT / "dev.py").read_text(encoding="utf-8")
    assert all(f'"{command}"' in dev for command in commands)
