"""The commands of operators: what they print and their exit codes."""

from __future__ import annotations

import io
import json
import sys
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.contenttypes.models import ContentType
from django.core.management import ManagementUtility, call_command
from django.core.management.base import CommandError
from django.test import override_settings
from django.utils import timezone

from synchro import engine
from synchro.inspection import status as status_module
from synchro.models import ChangeLog, Hold, options
from tests import factories
from tests.assertions import counterpart
from tests.databases import Pair, prepare
from tests.faults import unreachable
from tests.rows import attempt, entry, reference
from tests.shop.models import Article, Seat, Tag

State = ChangeLog.State
NOW = datetime(2024, 2, 29, 12, tzinfo=UTC)
LATER = datetime(2124, 2, 29, 12, tzinfo=UTC)
AWAY = "The database could not be used."


def run(*arguments: str) -> str:
    """Run a command and return what it prints."""
    out = io.StringIO()
    call_command(*arguments, stdout=out)
    return out.getvalue()


def shell(*arguments: str) -> int:
    """Run a command as a shell would, and return its exit code."""
    try:
        ManagementUtility(["manage.py", *arguments]).execute()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


# synchro_status


def test_status_of_nothing(sqlite_pair: Pair) -> None:
    assert run("synchro_status").splitlines() == [
        "REMOTE: sqlite_b",
        "Last check: -",
        "Last checkpoint: -",
        "Pending: 0, the oldest for: -",
        "  being retried: 0, waiting: 0",
        "Failed: 0, skipped: 0, discarded: 0",
    ]


def some_entries() -> None:
    entry(object_id="1", date=timezone.now() - timedelta(minutes=90))
    entry(object_id="2", attempts=1, next_attempt_at=LATER)
    entry(Tag, "3", next_attempt_at=LATER)
    for state in (State.SYNCED, State.FAILED, State.SKIPPED, State.DISCARDED):
        entry(object_id="4", state=state)


def test_status(sqlite_pair: Pair) -> None:
    some_entries()
    options.checked(NOW)
    options.checkpoint_ended(NOW)
    Hold.objects.hold("", AWAY)
    Hold.objects.hold("shop.Tag", "No such column.")
    Hold.objects.update(since=NOW)

    assert run("synchro_status").replace("\xa0", " ").splitlines() == [
        "REMOTE: sqlite_b",
        "Last check: 2024-02-29 12:00:00",
        "Last checkpoint: 2024-02-29 12:00:00",
        f"REMOTE is left alone since 2024-02-29 12:00:00: {AWAY}",
        "shop.Tag is left alone since 2024-02-29 12:00:00: No such column.",
        "Pending: 3, the oldest for: 1 hour, 30 minutes",
        "  being retried: 1, waiting: 1",
        "Failed: 1, skipped: 1, discarded: 1",
    ]


def test_status_by_model(sqlite_pair: Pair, stale_type: ContentType) -> None:
    entry(object_id="1", date=NOW)
    entry(Tag, "2", state=State.FAILED)
    entry(content_type=stale_type, object_id="3", state=State.SKIPPED)

    table = run("synchro_status", "-v", "2").splitlines()[-4:]

    assert [row.split() for row in table] == [
        ["pending", "retrying", "waiting", "failed", "skipped", "discarded", "oldest"],
        ["shop.Article", "1", "0", "0", "0", "0", "0", "2024-02-29", "12:00:00"],
        ["shop.Tag", "0", "0", "0", "1", "0", "0", "-"],
        ["shop.bygone", "0", "0", "0", "0", "1", "0", "-"],
    ]
    assert len({len(row) for row in table}) == 1


def test_status_as_json(pair: Pair) -> None:
    some_entries()
    options.checked(NOW)
    options.checkpoint_ended(NOW)
    Hold.objects.hold("", AWAY)

    found = json.loads(run("synchro_status", "--json"))

    assert (found["remote"], found["counted_up_to"]) == (pair.remote, 100_000)
    assert (found["last_check"], found["last_checkpoint"]) == ("2024-02-29T12:00:00Z",) * 2
    assert [(each["model"], each["reason"]) for each in found["holds"]] == [("", AWAY)]
    counts = {name: found[name] for name in ("pending", "retrying", "waiting", "failed", "skipped", "discarded")}
    assert list(counts.values()) == [3, 1, 1, 1, 1, 1]
    assert 5400 <= found["lag"] < 5500
    assert found["models"]["shop.Tag"]["pending"] == 1


def test_status_says_where_counting_ended(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "COUNTED", 2)
    for _ in range(3):
        entry()

    assert "Pending: 2, " in run("synchro_status")
    assert "Of each model and state at most " in run("synchro_status")


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ([], 0),
        (["--max-lag", "5500"], 0),
        (["--max-lag", "5300"], 1),
        (["--max-lag", "0.5"], 1),
        (["--max-failed", "1"], 0),
        (["--max-failed", "0"], 1),
        (["--max-lag", "5500", "--max-failed", "0", "--json"], 1),
    ],
)
def test_status_as_a_probe(sqlite_pair: Pair, capsys: pytest.CaptureFixture[str], limits: list[str], code: int) -> None:
    some_entries()

    assert shell("synchro_status", *limits) == code
    assert bool(capsys.readouterr().err) == bool(code)


def test_a_probe_names_what_is_wrong(sqlite_pair: Pair) -> None:
    some_entries()

    with pytest.raises(CommandError) as info:
        run("synchro_status", "--max-lag", "60", "--max-failed", "0")

    assert str(info.value) == (
        "The oldest pending change is 5400 seconds old, more than 60.0. 1 change has failed, more than 0."
    )


def test_a_probe_passes_where_nothing_is_pending(sqlite_pair: Pair) -> None:
    assert shell("synchro_status", "--max-lag", "0", "--max-failed", "0") == 0


def test_status_without_an_answer(unblocked: None, capsys: pytest.CaptureFixture[str]) -> None:
    pair = Pair("sqlite_bare", "sqlite_b")
    for alias in (pair.local, pair.remote):
        prepare(alias)
    with pair.active():
        assert shell("synchro_status") == 2

    assert "no such table: synchro_" in capsys.readouterr().err


def test_status_does_not_need_remote(sqlite_pair: Pair) -> None:
    with unreachable(sqlite_pair.remote):
        assert shell("synchro_status") == 0


# synchro_retry, synchro_discard


def stuck_entries() -> dict[str, ChangeLog]:
    entries = [
        entry(object_id="1", state=State.FAILED, attempts=10, reason="No."),
        entry(object_id="2", attempts=1, next_attempt_at=LATER, reason="Not yet."),
        entry(Tag, "3", state=State.FAILED, attempts=10, reason="No."),
        entry(object_id="4"),
    ]
    return {each.object_id: each for each in entries}


@pytest.mark.parametrize("command", ["synchro_retry", "synchro_discard"])
def test_what_could_be_chosen_is_listed(sqlite_pair: Pair, command: str) -> None:
    assert run(command) == "Nothing is being retried, waiting or failed.\n"
    entries = stuck_entries()

    assert run(command).splitlines() == [
        f"{entries['3'].pk}  shop.Tag 3  failed, attempts: 10  No.",
        f"{entries['2'].pk}  shop.Article 2  pending until 2124-02-29 12:00:00, attempts: 1  Not yet.",
        f"{entries['1'].pk}  shop.Article 1  failed, attempts: 10  No.",
    ]


def test_only_some_are_listed(sqlite_pair: Pair) -> None:
    for number in range(51):
        entry(object_id=str(number), state=State.FAILED)

    lines = run("synchro_retry").splitlines()

    assert len(lines) == 51
    assert lines[-1] == "There are more. 'synchro_status -v 2' counts them."


@pytest.mark.parametrize(
    ("arguments", "retried"),
    [
        (["--object", "shop.Article", "1"], {"1"}),
        (["--object", "shop.Article", "1", "--object", "shop.tag", "3"], {"1", "3"}),
        (["--object", "shop.Article", "99"], set()),
        (["--model", "shop.Article"], {"1", "2"}),
        (["--all"], {"1", "2", "3"}),
    ],
)
def test_retry(pair: Pair, arguments: list[str], retried: set[str]) -> None:
    stuck_entries()
    words = "1 change is" if len(retried) == 1 else f"{len(retried)} changes are"

    assert run("synchro_retry", *arguments) == f"{words} tried again now.\n"

    assert {"1", "2", "3"} - set(ChangeLog.objects.stuck().values_list("object_id", flat=True)) == retried


def test_retry_by_id(sqlite_pair: Pair) -> None:
    entries = stuck_entries()

    assert run("synchro_retry", str(entries["1"].pk), str(entries["3"].pk)) == "2 changes are tried again now.\n"


def test_discard_without_a_question(sqlite_pair: Pair) -> None:
    stuck_entries()

    assert run("synchro_discard", "--model", "shop.Article", "--noinput") == "2 changes were discarded.\n"
    assert ChangeLog.objects.filter(state=State.DISCARDED).count() == 2


@pytest.mark.parametrize(("answer", "discards"), [("y\n", True), ("YES\n", True), ("\n", False), ("", False)])
def test_discard_asks(
    sqlite_pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str,
    discards: bool,
) -> None:
    stuck_entries()
    monkeypatch.setattr(sys, "stdin", io.StringIO(answer))

    assert shell("synchro_discard", "--all") == (0 if discards else 1)

    told = capsys.readouterr()
    assert told.out.startswith("Discard 3 changes? [y/N] ")
    assert ("Nothing was discarded." in told.err) != discards
    assert ChangeLog.objects.filter(state=State.DISCARDED).count() == (3 if discards else 0)


@pytest.mark.parametrize("arguments", [["--model", "shop.Nothing"], ["--object", "nonsense", "1"]])
def test_a_model_that_does_not_exist(sqlite_pair: Pair, arguments: list[str]) -> None:
    with pytest.raises(CommandError, match="is no installed model"):
        run("synchro_retry", *arguments)


# synchro_explain


def explain(*arguments: str) -> list[str]:
    return run("synchro_explain", *arguments).replace("\xa0", " ").splitlines()


def test_explain_an_object_that_nobody_knows(sqlite_pair: Pair) -> None:
    assert explain("shop.Article", "7") == [
        "shop.Article 7",
        "Nothing is logged of this object.",
        "The object is on neither side.",
    ]


def test_explain(sqlite_pair: Pair) -> None:
    article = factories.article(pk=1)
    engine.sync_pending()
    copy = counterpart(article)
    Article.objects.using(sqlite_pair.remote).update(title="other")
    ChangeLog.objects.update(date=NOW, synced_at=NOW)
    entry(object_id="1", date=NOW, state=State.FAILED, attempts=3, reason="No.")
    attempt(object_id="1", date=NOW, task_id="5f0c", message="No.\nReally.")

    lines = explain("shop.Article", "1")

    first, second = ChangeLog.objects.order_by("pk").values_list("pk", flat=True)
    assert lines == [
        "shop.Article 1",
        "Given up, until the object changes or an operator retries it: No.",
        f"Primary key on REMOTE: {copy.pk}",
        "REMOTE's copy is different.",
        "  title: LOCAL …, REMOTE …",
        "",
        "Changes, the newest first:",
        f"  {second}  2024-02-29 12:00:00  added: failed, attempts: 3  No.",
        f"  {first}  2024-02-29 12:00:00  added: synced, attempts: 0  2024-02-29 12:00:00",
        "",
        "Failed attempts, the newest first:",
        "  2024-02-29 12:00:00  IntegrityError  5f0c",
        "    No.",
        "    Really.",
    ]
    assert explain("shop.Article", "1", "-v", "2")[-1] == "    File engine.py, line 1"


def test_explain_while_remote_is_away(sqlite_pair: Pair) -> None:
    row = reference()
    with unreachable(sqlite_pair.remote):
        lines = explain("shop.Article", "1")

    assert lines[2:] == [f"Remembered primary key: 1001 at {row.peer}", "unable to open database file"]


@override_settings(SYNCHRO_LOG_VALUES=True)
def test_explain_with_values(pair: Pair) -> None:
    article = factories.article(title="here")
    engine.sync_pending()
    Article.objects.using(pair.remote).update(title="there")

    assert "  title: LOCAL 'here', REMOTE 'there'" in explain("shop.article", str(article.pk))


def test_explain_an_object_with_two_keys(sqlite_pair: Pair) -> None:
    seat = factories.seat(row="A", number=1)
    engine.sync_pending()

    lines = explain("shop.Seat", '["A", "1"]')

    assert isinstance(seat, Seat)
    assert lines[:2] == ['shop.Seat ["A", "1"]', "Everything has arrived."]


def test_explain_something_else(sqlite_pair: Pair) -> None:
    with pytest.raises(CommandError, match="is no installed model"):
        run("synchro_explain", "nonsense", "1")


@pytest.mark.parametrize(
    "command", [("synchro_status",), ("synchro_retry", "--all"), ("synchro_explain", "auth.User", "1")]
)
def test_wrong_settings(sqlite_pair: Pair, command: tuple[str, ...]) -> None:
    with override_settings(SYNCHRO_LOCAL="nowhere"), pytest.raises(CommandError, match="SYNCHRO_LOCAL is 'nowhere'"):
        run(*command)
