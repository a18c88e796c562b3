"""System checks: one test, or more, for each id."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import connections
from django.test import override_settings

from synchro import checks as synchro_checks
from tests.databases import Pair
from tests.faults import unreachable
from tests.queries import queries
from tests.shop.models import Article, Seat, Tag


def found(*, databases: list[str] | None = None) -> list[CheckMessage]:
    """Return what synchro's checks find, those that ask a database if it is named."""
    messages = checks.run_checks(tags=[synchro_checks.TAG])
    if databases is not None:
        messages += checks.run_checks(tags=[Tags.database], databases=databases)
    return [message for message in messages if str(message.id).startswith("synchro.")]


def ids(*, databases: list[str] | None = None) -> set[str]:
    return {str(message.id) for message in found(databases=databases)}


def only(number: str, *, databases: list[str] | None = None) -> CheckMessage:
    """Return the one message of the checks, which has this id, and a hint."""
    (message,) = found(databases=databases)
    assert message.id == f"synchro.{number}"
    assert message.level == (checks.ERROR if number.startswith("E") else checks.WARNING)
    assert message.hint
    return message


def test_nothing_is_wrong(pair: Pair) -> None:
    assert found(databases=[pair.local, pair.remote]) == []


def test_settings_are_checked_without_a_database() -> None:
    assert found() == []


def test_ids_are_used_once() -> None:
    docstrings = [str(check.__doc__) for check in (*synchro_checks._ALWAYS, *synchro_checks._WITH_DATABASES)]
    used = [each for docstring in docstrings for each in re.findall(r"\b[EW]\d{3}\b", docstring)]

    assert len(used) == len(set(used)) == 20


# Settings


@pytest.mark.parametrize("value", ["nowhere", "", 5, False, ["sqlite_b"]])
def test_e001_remote_is_no_alias(value: Any) -> None:
    with override_settings(SYNCHRO_REMOTE=value):
        assert only("E001").msg.startswith(f"SYNCHRO_REMOTE is {value!r}, which is no alias in DATABASES.")


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("shop", "SYNCHRO_MODELS is 'shop'; it must be a list or tuple"),
        (5, "SYNCHRO_MODELS is 5; it must be a list or tuple"),
        (["bakery"], "SYNCHRO_MODELS names the app 'bakery', which is not installed."),
        ([("shop", "bread")], "SYNCHRO_MODELS names the model 'bread', which the app 'shop' does not have."),
        ([5], "SYNCHRO_MODELS contains 5;"),
        ([()], "SYNCHRO_MODELS contains ();"),
        ([("shop", 5)], "SYNCHRO_MODELS contains ('shop', 5);"),
    ],
)
def test_e002_what_to_watch_is_unknown(value: Any, sentence: str) -> None:
    with override_settings(SYNCHRO_MODELS=value):
        assert only("E002").msg.startswith(sentence)


@override_settings(SYNCHRO_LOCAL="sqlite_a", SYNCHRO_REMOTE="sqlite_a")
def test_e003_remote_is_local() -> None:
    assert only("E003").msg.startswith("SYNCHRO_REMOTE is 'sqlite_a', which is LOCAL itself.")


def test_e004_a_skipped_field_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Article, "SYNCHRO_SKIP", ("title", "weight"), raising=False)

    message = only("E004")

    assert message.msg == "SYNCHRO_SKIP of shop.Article names 'weight', which is no field of the model."
    assert message.obj is Article
    assert str(message.hint).endswith("out of: id, title, text, words.")


@pytest.mark.parametrize("value", ["title", 5, None])
def test_e004_the_skipped_fields_are_no_tuple(value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Article, "SYNCHRO_SKIP", value, raising=False)

    assert only("E004").msg == f"SYNCHRO_SKIP of shop.Article is {value!r}, which is no tuple of field names."


@pytest.mark.parametrize(
    ("number", "setting", "value"),
    [
        ("E005", "SYNCHRO_LOCAL", "nowhere"),
        ("E006", "SYNCHRO_ALLOW_RESET", "no"),
        ("E007", "SYNCHRO_DEBUG", 1),
        ("E008", "SYNCHRO_BATCH_SIZE", 0),
        ("E009", "SYNCHRO_MAX_ATTEMPTS", None),
        ("E010", "SYNCHRO_LOG_RETENTION", "30"),
        ("E011", "SYNCHRO_REMOTE_CASCADE", "yes"),
        ("E012", "SYNCHRO_LOG_VALUES", "yes"),
        ("E013", "SYNCHRO_TASK_QUEUE", ""),
        ("E014", "SYNCHRO_TASK_EXPIRES", "1 h"),
    ],
)
def test_a_setting_is_rubbish(number: str, setting: str, value: Any) -> None:
    with override_settings(**{setting: value}):
        message = only(number)

    assert message.msg.startswith(f"{setting} is {value!r}")
    assert str(message.hint).startswith(f"{setting} = ")


def test_everything_is_wrong_at_once() -> None:
    """No check stumbles over what another one is there to tell."""
    rubbish = object()
    names = "LOCAL REMOTE MODELS ALLOW_RESET DEBUG BATCH_SIZE MAX_ATTEMPTS LOG_RETENTION REMOTE_CASCADE LOG_VALUES"
    with override_settings(**{f"SYNCHRO_{name}": rubbish for name in f"{names} TASK_QUEUE TASK_EXPIRES".split()}):
        expected = {f"synchro.E{number:03}" for number in (1, 2, *range(5, 15))}

        assert ids(databases=["sqlite_a", "sqlite_b"]) == expected


def test_w001_remote_is_not_set() -> None:
    with override_settings():
        del settings.SYNCHRO_REMOTE

        assert only("W001").msg == "SYNCHRO_REMOTE is not set, so changes are only logged."


@override_settings(SYNCHRO_REMOTE=None)
def test_no_remote_is_a_choice() -> None:
    assert found(databases=["sqlite_a", "sqlite_b"]) == []


# Models


@pytest.mark.parametrize("max_length", [256, None])
def test_w004_a_key_that_is_too_long(max_length: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tag._meta.pk, "max_length", max_length)

    message = only("W004")

    assert message.msg.startswith("The primary key of shop.Tag may have more than 255 characters.")
    assert message.obj is Tag


def test_w004_a_composite_key_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Seat._meta.get_field("row"), "max_length", 256)

    assert only("W004").obj is Seat


# Databases


@pytest.mark.parametrize("alias", ["sqlite_a", "sqlite_b"])
@pytest.mark.parametrize("mode", [None, "DEFERRED"])
def test_w005_sqlite_begins_without_a_lock(alias: str, mode: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections[alias].settings_dict["OPTIONS"], "transaction_mode", mode)

    message = only("W005")

    assert message.msg.startswith(f"The SQLite database {alias!r} begins its transactions without a lock")
    assert str(message.hint).startswith(f"DATABASES[{alias!r}]")


def test_w005_is_about_local_and_remote_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["sqlite_bare"].settings_dict["OPTIONS"], "transaction_mode", None)

    assert found() == []


def test_w002_and_w003_remote_has_no_tables(bare_pair: Pair) -> None:
    messages = found(databases=[bare_pair.remote])

    (w003,) = [each for each in messages if each.id == "synchro.W003"]
    assert w003.msg.startswith(f"REMOTE ({bare_pair.remote!r}) has no tables of synchro")
    assert w003.hint == f"Run 'manage.py migrate --database {bare_pair.remote}'."

    doubtful = {each.obj._meta.label for each in messages if each.id == "synchro.W002"}
    assert {"shop.Article", "shop.City"} <= doubtful
    assert not doubtful & {"shop.Product", "shop.Country", "shop.Tag", "shop.Parcel", "shop.Seat", "shop.Restaurant"}
    assert {each.id for each in messages} == {"synchro.W002", "synchro.W003"}


def test_remote_is_not_asked_unless_it_is_named(sqlite_pair: Pair) -> None:
    with queries(sqlite_pair.remote) as asked:
        checks.run_checks()
        checks.run_checks(databases=[sqlite_pair.local])

    assert asked == []


def test_nothing_is_said_of_a_remote_that_is_still_empty(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first `migrate --database` would otherwise warn of the tables that it is about to make."""
    connection = connections[sqlite_pair.remote]
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "NAME", ":memory:")

    assert found(databases=[sqlite_pair.remote]) == []

    monkeypatch.undo()
    connection.close()


def test_w006_remote_is_down(sqlite_pair: Pair) -> None:
    with unreachable(sqlite_pair.remote):
        message = only("W006", databases=[sqlite_pair.remote])

    assert message.msg.startswith(f"REMOTE ({sqlite_pair.remote!r}) could not be asked for its tables: ")
    assert "secret" not in message.msg


# In a command


@override_settings(SYNCHRO_REMOTE="nowhere")
def test_a_wrong_setting_stops_commands() -> None:
    with pytest.raises(SystemCheckError, match=r"\(synchro.E001\) SYNCHRO_REMOTE is 'nowhere'"):
        call_command("check", tags=[synchro_checks.TAG])
