"""The translations: complete, compiled, and with the placeholders of the original."""

from __future__ import annotations

import ast
import gettext
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.checkers import checkers
from babel.messages.pofile import read_po
from django.utils import translation

from hatch_build import compile_catalogue
from tests.translations import ROOT, catalogues, translated

PLACEHOLDER = re.compile(r"%\(\w+\)[sd]")
TRANSLATE = {"_", "gettext", "gettext_lazy", "ngettext", "pgettext"}
TAGS = re.compile(
    r"""{%\s*translate\s+"(?P<text>[^"]*)"|{%\s*blocktranslate\b(?P<head>[^%]*)%}(?P<block>.*?){%\s*endblocktranslate""",
    re.DOTALL,
)

each_catalogue = pytest.mark.parametrize("source", catalogues(), ids=lambda path: path.parent.parent.name)


def read(source: Path) -> Catalog:
    with source.open("rb") as stream:
        return read_po(stream, locale=source.parent.parent.name)


def messages(source: Path) -> list[Message]:
    return [message for message in read(source) if message.id]


def texts(text: object) -> list[str]:
    """Return a text, or all plural forms of one."""
    return [str(each) for each in text] if isinstance(text, list | tuple) else [str(text)]


def test_the_languages() -> None:
    assert {path.parent.parent.name for path in catalogues()} >= {"de", "pl", "fr", "es"}


@each_catalogue
def test_every_message_is_translated(source: Path) -> None:
    catalogue = read(source)
    for message in messages(source):
        assert not message.fuzzy, message.id
        assert all(texts(message.string)), message.id
        assert len(texts(message.string)) == (catalogue.num_plurals if message.pluralizable else 1), message.id
        for check in checkers:
            check(catalogue, message)


@each_catalogue
def test_placeholders_are_those_of_the_original(source: Path) -> None:
    for message in messages(source):
        expected = set(PLACEHOLDER.findall(texts(message.id)[-1]))
        for string in texts(message.string):
            assert set(PLACEHOLDER.findall(string)) == expected, string
            assert not re.search(r"%(?!\(\w+\)[sd])", string), string


@each_catalogue
def test_nothing_is_forgotten_and_nothing_is_left_over(source: Path) -> None:
    package = source.relative_to(ROOT).parts[0]

    assert {texts(message.id)[0] for message in messages(source)} == set(used_in(ROOT / package))


@each_catalogue
def test_they_compile(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / source.parent.parent.name / "LC_MESSAGES"
    folder.mkdir(parents=True)

    with compile_catalogue(Path(shutil.copy(source, folder))).open("rb") as stream:
        compiled = gettext.GNUTranslations(stream)

    for message in messages(source):
        if not message.pluralizable:
            assert compiled.gettext(str(message.id)) == message.string


@pytest.mark.parametrize(
    ("language", "count", "expected"),
    [
        ("de", 1, "1 weiteres steht in der Liste der Versuche."),
        ("de", 2, "2 weitere stehen in der Liste der Versuche."),
        ("pl", 3, "Jeszcze 3 znajdują się na liście prób."),
        ("pl", 5, "Jeszcze 5 znajduje się na liście prób."),
        ("fr", 2, "2 autres figurent dans la liste des tentatives."),
        ("es", 1, "1 más está en la lista de intentos."),
    ],
)
def test_django_finds_them(language: str, count: int, expected: str, tmp_path: Path) -> None:
    with translated(tmp_path), translation.override(language):
        sentence = translation.ngettext(
            "%(count)d more is in the list of attempts.", "%(count)d more are in the list of attempts.", count
        )

    assert sentence % {"count": count} == expected


def used_in(package: Path) -> Iterator[str]:
    """Yield what a package gives to gettext, in Python and in templates."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TRANSLATE:
                yield ast.literal_eval(node.args[0])
    for path in package.rglob("*.html"):
        for found in TAGS.finditer(path.read_text(encoding="utf-8")):
            if found["text"] is not None:
                yield found["text"]
            else:
                singular = re.split(r"{%\s*plural\s*%}", found["block"])[0]
                yield re.sub(r"{{\s*(\w+)\s*}}", r"%(\1)s", " ".join(singular.split()))
