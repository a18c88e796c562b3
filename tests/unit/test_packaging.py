"""What is built is what was meant: two packages, compiled translations, honest metadata, usable pins."""

import email
import gettext
import re
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("synchro", "synchro_tasks")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel built from the sdist, so that both are tried: whatever the sdist lacks is missing here."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = target.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture
def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def files_to_ship() -> set[str]:
    """Every source file of the two packages, and a compiled catalogue beside each translation."""
    ignored = {".pyc", ".mo"}
    found = (path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.is_file())
    sources = {path.relative_to(ROOT) for path in found if path.suffix not in ignored}
    compiled = {path.with_suffix(".mo") for path in sources if path.suffix == ".po"}
    return {path.as_posix() for path in sources | compiled}


def catalogues() -> list[Path]:
    return [path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.po")]


def test_the_wheel_ships_exactly_the_two_packages(wheel: zipfile.ZipFile) -> None:
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == files_to_ship()
    assert {name.partition("/")[0] for name in shipped} == set(PACKAGES)


@pytest.mark.parametrize(
    "name",
    [
        "synchro/py.typed",
        "synchro_tasks/py.typed",
        "synchro/migrations/__init__.py",
        "synchro/management/commands/synchronize.py",
        "synchro/templates/synchro/synchro.html",
    ],
)
def test_the_wheel_has(wheel: zipfile.ZipFile, name: str) -> None:
    assert name in wheel.namelist()


def test_the_license_travels_along(wheel: zipfile.ZipFile) -> None:
    assert [name for name in wheel.namelist() if name.endswith(".dist-info/licenses/LICENSE")]


def test_there_are_translations() -> None:
    assert catalogues()


@pytest.mark.parametrize("source", catalogues(), ids=str)
def test_translations_are_compiled(wheel: zipfile.ZipFile, source: Path) -> None:
    with wheel.open(source.with_suffix(".mo").as_posix()) as stream:
        translations = gettext.GNUTranslations(stream)
    assert translations.gettext("No changes since last synchronization.") != "No changes since last synchronization."


def test_metadata(metadata: Message) -> None:
    assert metadata["Name"] == "django-synchro"
    assert metadata["Version"] == PROJECT["project"]["version"]
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"


def test_the_core_depends_on_django_alone(metadata: Message) -> None:
    requirements = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    assert [requirement.name for requirement in requirements if requirement.marker is None] == ["django"]


def test_the_changelog_knows_this_version() -> None:
    assert f"## {PROJECT['project']['version']} " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def requirements() -> list[Requirement]:
    project = PROJECT["project"]
    extras = [lines for extra, lines in project["optional-dependencies"].items() if extra != "mysql"]
    groups = PROJECT["dependency-groups"].values()
    lists = [project["dependencies"], PROJECT["build-system"]["requires"], *extras, *groups]
    return [Requirement(line) for lines in lists for line in lines]


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_every_requirement_is_bounded_and_pinned(requirement: Requirement) -> None:
    assert any(bound.operator == ">=" for bound in requirement.specifier)
    versions = [
        bound.version
        for pin in pins()
        if canonicalize_name(pin.name) == canonicalize_name(requirement.name)
        for bound in pin.specifier
    ]
    assert versions
    assert all(requirement.specifier.contains(version, prereleases=True) for version in versions)


def test_pins_are_plain() -> None:
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|--|@", text)
    assert all([bound.operator for bound in pin.specifier] == ["=="] for pin in pins())


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_each_python_has_one_django(python: str) -> None:
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    chosen = [pin for pin in pins() if canonicalize_name(pin.name) == "django" and applies(pin.marker, environment)]
    assert len(chosen) == 1


def applies(marker: Marker | None, environment: dict[str, str]) -> bool:
    return marker is None or marker.evaluate(environment)
