"""``manage.py synchronize``: what it prints, its exit codes, and that it ends cleanly."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.core.management import ManagementUtility, call_command
from django.core.management.base import CommandError
from django.db import connections
from django.db.models.signals import post_save
from django.test import override_settings
from django.utils import translation

from synchro import engine
from synchro.models import ChangeLog
from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_on_remote
from tests.databases import Pair
from tests.faults import ambiguous_twin, unreachable
from tests.shop.models import Article
from tests.translations import translated

SUCCESS = "Synchronization performed successfully."
NOTHING = "No changes since last synchronization."
STAYS = "Everything that has not arrived stays pending."


class Terminal(io.StringIO):
    """A stream that says that somebody is watching."""

    def isatty(self) -> bool:
        return True


def shell(*arguments: str) -> int:
    """Run the command as a shell would, and return its exit code."""
    try:
        ManagementUtility(["manage.py", "synchronize", *arguments]).execute()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def synchronize(*arguments: str, **options: Any) -> tuple[str, str, str]:
    """Call the command; return its message, its output and what it wrote to its terminal."""
    out, terminal = io.StringIO(), options.pop("stderr", io.StringIO())
    message = call_command("synchronize", *arguments, stdout=out, stderr=terminal, **options)
    return message, out.getvalue(), terminal.getvalue()


# What it prints


def test_messages(pair: Pair) -> None:
    article = factories.article()

    assert synchronize() == (SUCCESS, f"{SUCCESS}\n", "")
    assert_same_on_remote(article)
    assert synchronize() == (NOTHING, f"{NOTHING}\n", "")


def test_counts(sqlite_pair: Pair) -> None:
    for _ in range(3):
        factories.article()
    factories.city()

    _, out, _ = synchronize(verbosity=2)

    assert out.splitlines() == [
        "shop.Article: 3",
        "shop.City: 1",
        "shop.Country: 1",
        "Objects: 5 synchronized, 0 skipped because REMOTE is newer, 0 failed.",
        SUCCESS,
    ]


def test_counts_of_nothing(sqlite_pair: Pair) -> None:
    _, out, _ = synchronize(verbosity=2)

    assert out.splitlines() == ["Objects: 0 synchronized, 0 skipped because REMOTE is newer, 0 failed.", NOTHING]


def test_a_skipped_change_is_counted(sqlite_pair: Pair) -> None:
    article = factories.article()
    engine.sync_pending()
    article.save()
    with sqlite_pair.reversed.active():
        Article.objects.using(sqlite_pair.remote).get().save()

    message, out, _ = synchronize(verbosity=2)

    assert "Objects: 0 synchronized, 1 skipped because REMOTE is newer, 0 failed." in out
    assert message == SUCCESS


def test_older_failures_are_mentioned(sqlite_pair: Pair) -> None:
    for _ in range(2):
        factories.article()
    ChangeLog.objects.update(state=ChangeLog.State.FAILED)

    message, out, _ = synchronize()

    assert message == NOTHING
    assert out.splitlines() == [
        "2 changes failed too often before, and are not tried again until their objects change.",
        NOTHING,
    ]


def test_in_another_language(sqlite_pair: Pair, tmp_path: Path) -> None:
    with translated(tmp_path), translation.override("de"):
        assert synchronize()[0] == "Keine Änderungen seit der letzten Synchronisierung."


# Exit codes


def test_success(sqlite_pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    factories.article()

    assert shell() == 0
    assert capsys.readouterr().out == f"{SUCCESS}\n"


def test_objects_that_fail_are_listed(sqlite_pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    article = factories.article()
    twins = [ambiguous_twin(sqlite_pair) for _ in range(2)]

    assert shell("--verbosity=2", "--no-color", "--skip-checks") == 1

    out, err = capsys.readouterr()
    head, *failures = err.splitlines()
    assert head == "CommandError: 2 objects could not be synchronized (everything else was):"
    assert [line.split(":")[0] for line in failures] == [f"  shop.Twin {twin.pk}" for twin in twins]
    assert "Objects: 1 synchronized, 0 skipped because REMOTE is newer, 2 failed." in out
    assert SUCCESS not in out
    assert_same_on_remote(article)


def test_remote_is_down(sqlite_pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    factories.article()

    with unreachable(sqlite_pair.remote):
        assert shell("--no-color", "--skip-checks") == 1

    _, err = capsys.readouterr()
    assert re.fullmatch(rf"CommandError: REMOTE cannot be used for now: .*\. {STAYS}\n", err)
    assert "secret" not in err
    assert ChangeLog.objects.pending().count() == 1


@pytest.mark.postgres
def test_a_server_that_is_down(postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    factories.article()
    connection = connections[postgres_pair.remote]
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    monkeypatch.setitem(connection.settings_dict, "PASSWORD", "sesame")

    with pytest.raises(CommandError, match="REMOTE cannot be used for now") as caught:
        synchronize()

    assert "127.0.0.1" not in str(caught.value)
    assert "sesame" not in str(caught.value)


@override_settings(SYNCHRO_REMOTE=None)
def test_without_remote(unblocked: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("--no-color", "--skip-checks") == 1
    assert capsys.readouterr().err.startswith("CommandError: SYNCHRO_REMOTE is not set, so changes are only logged.")


@override_settings(SYNCHRO_REMOTE="nowhere")
def test_a_wrong_alias_is_found_by_the_checks(unblocked: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert shell("--no-color") == 1

    _, err = capsys.readouterr()
    assert "(synchro.E001) SYNCHRO_REMOTE is 'nowhere', which is no alias in DATABASES." in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("SYNCHRO_REMOTE", "nowhere"),
        ("SYNCHRO_LOCAL", "nowhere"),
        ("SYNCHRO_MODELS", "shop"),
        ("SYNCHRO_BATCH_SIZE", 0),
    ],
)
def test_rubbish_in_a_setting(sqlite_pair: Pair, setting: str, value: Any) -> None:
    factories.article()

    with override_settings(**{setting: value}), pytest.raises(CommandError, match=f"^{setting} is {value!r}"):
        synchronize()


def test_remote_is_a_copy_of_local(sqlite_pair: Pair) -> None:
    factories.article()
    one = engine.identity(sqlite_pair.local)
    with connections[sqlite_pair.remote].cursor() as cursor:
        cursor.execute("INSERT INTO synchro_option VALUES ('identity', %s)", [str(one)])

    with pytest.raises(CommandError, match="LOCAL and REMOTE have the same identity"):
        synchronize()


# Ctrl-C


@contextmanager
def interrupted_after(count: int, *, using: str) -> Iterator[None]:
    """Press Ctrl-C while REMOTE writes the article after this many."""
    seen = []

    def press(sender: type[Article], **kwargs: Any) -> None:
        if kwargs["using"] == using:
            seen.append(kwargs["instance"])
        if len(seen) > count:
            raise KeyboardInterrupt

    post_save.connect(press, sender=Article)
    try:
        yield
    finally:
        post_save.disconnect(press, sender=Article)


@override_settings(SYNCHRO_BATCH_SIZE=2)
def test_an_interrupted_run_goes_on_with_the_next(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(6):
        factories.article()

    with interrupted_after(3, using=pair.remote):
        assert shell("--no-color", "--skip-checks") == 130

    assert capsys.readouterr().err == (f"CommandError: Interrupted. {STAYS[:-1]}, and the next run goes on with it.\n")
    assert Article.objects.using(pair.remote).count() == 2
    assert ChangeLog.objects.pending().count() == 4
    assert synchronize()[0] == SUCCESS
    assert_in_step(Article)


# Progress


def test_no_bar_without_a_terminal(sqlite_pair: Pair) -> None:
    factories.article()

    assert synchronize()[2] == ""


def test_a_bar_on_a_terminal(sqlite_pair: Pair) -> None:
    for _ in range(5):
        factories.article()

    message, out, bar = synchronize(stderr=Terminal())

    assert (message, out) == (SUCCESS, f"{SUCCESS}\n")
    assert re.search(r"100%.* 5/5 ", bar)
    assert "\x1b[31" not in bar  # errors are red, a bar is none
    assert bar.endswith("\n")
    assert_nothing_pending()


def test_a_counter_without_tqdm(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tqdm", None)
    for _ in range(5):
        factories.article()

    with override_settings(SYNCHRO_BATCH_SIZE=2):
        _, _, bar = synchronize(stderr=Terminal())

    assert bar == "\r0/5\r2/5\r4/5\r5/5\n"


def test_a_line_of_its_own_for_an_error(sqlite_pair: Pair) -> None:
    ambiguous_twin(sqlite_pair)
    terminal = Terminal()

    with pytest.raises(CommandError):
        synchronize(stderr=terminal)

    assert terminal.getvalue().endswith("\n")


@pytest.mark.parametrize("options", [{"verbosity": 0}, {}])
def test_no_bar_for_nothing(sqlite_pair: Pair, options: dict[str, Any]) -> None:
    if options:
        factories.article()

    assert synchronize(stderr=Terminal(), **options)[2] == ""
