"""``manage.py synchronize --full``: what it prints, and its exit codes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any
from unittest.mock import call, patch

import pytest
from django.db import connections
from django.db.models.signals import post_save
from django.utils.formats import localize
from django.utils.timezone import localtime

from synchro.compare import digests
from synchro.core import reset_synchro
from synchro.models import ChangeLog, Comparison
from tests import factories
from tests.databases import Pair
from tests.faults import ambiguous_twin
from tests.integration.test_synchronize_command import Terminal, shell, synchronize
from tests.roads import sync
from tests.shop.models import Article, Locker, Seat

QUIET = ("--no-color", "--skip-checks")


def diverge(pair: Pair) -> tuple[Article, Article]:
    changed, extra = factories.article(title="Old"), Article(title="Extra")
    sync()
    extra.save(using=pair.remote)
    Article.objects.update(title="New")
    return changed, extra


def test_the_report(sqlite_pair: Pair) -> None:
    changed, extra = diverge(sqlite_pair)

    message, out, bar = synchronize("shop.Article", full=True, dry_run=True, show=5)

    lines = out.splitlines()
    assert message == "2 objects differ."
    assert lines[:3] == [
        f"shop.Article {changed.pk}: different",
        "    title: LOCAL 'New', REMOTE 'Old'",
        f"shop.Article {extra.pk}: only on REMOTE",
    ]
    head = "model compared equal missing different deleted extra repaired failed skipped because pending seconds"
    assert lines[3].split() == head.split()
    assert lines[4].split()[:-1] == ["shop.Article", *"100101000"]
    assert (lines[5], bar) == ("2 objects differ.", "")
    assert ChangeLog.objects.pending().count() == 0


def test_messages(sqlite_pair: Pair) -> None:
    diverge(sqlite_pair)

    assert synchronize(full=True, delete_extra=True, max_delete="50%")[0] == "Everything that differed was repaired."
    assert synchronize(full=True)[0] == "Both databases agree."
    assert len(Comparison.objects.all()) == 2


def test_json(sqlite_pair: Pair) -> None:
    changed, _ = diverge(sqlite_pair)

    _, out, _ = synchronize("shop.Article", full=True, json=True, show=1)

    found = json.loads(out)
    (tally,) = found["models"]
    assert (tally["model"], tally["different"], tally["repaired"], tally["extra"]) == ("shop.Article", 1, 1, 1)
    (difference,) = found["differences"]
    assert difference["key"] == str(changed.pk)
    assert difference["values"] == [{"field": "title", "local": "New", "remote": "Old"}]


def test_ctrl_c(sqlite_pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    """The next run says that it goes on, and since when."""
    diverge(sqlite_pair)

    def press(sender: type[Article], **kwargs: Any) -> None:
        raise KeyboardInterrupt

    post_save.connect(press, sender=Article)
    try:
        assert shell("--full", "shop.Article", *QUIET) == 130
    finally:
        post_save.disconnect(press, sender=Article)
    assert "Interrupted. Everything that has not arrived stays pending" in capsys.readouterr().err
    moment = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    Comparison.objects.update(started_at=moment)

    message, out, _ = synchronize("shop.Article", full=True)

    shown = localize(localtime(moment))
    assert f"Goes on with the comparison of {shown}, which was interrupted; --restart begins anew." in out
    assert message == "2 objects differ."
    assert "Goes on" not in synchronize("shop.Article", full=True)[1]


def test_json_says_what_it_goes_on_with(sqlite_pair: Pair) -> None:
    diverge(sqlite_pair)
    assert json.loads(synchronize(full=True, json=True)[1])["resumed"] is None
    moment = datetime(2026, 1, 31, 12, 30, tzinfo=UTC)
    Comparison.objects.update(state=Comparison.State.INTERRUPTED, started_at=moment)

    assert json.loads(synchronize(full=True, json=True)[1])["resumed"] == "2026-01-31T12:30:00+00:00"


def test_exit_codes(sqlite_pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    diverge(sqlite_pair)

    assert shell("--full", "--dry-run", *QUIET) == 0
    assert shell("--full", "--dry-run", "--check", *QUIET) == 1
    assert "2 objects differ." in capsys.readouterr().err
    assert shell("--full", "--delete-extra", "--max-delete=1", "--check", *QUIET) == 1  # it did, and is repaired
    assert "2 objects differ." in capsys.readouterr().err
    assert shell("--full", "--check", *QUIET) == 0


@pytest.mark.parametrize(("gone", "left"), [(1, 9), (2, 10)])
def test_by_default_a_tenth_may_be_deleted(sqlite_pair: Pair, gone: int, left: int) -> None:
    articles = [factories.article() for _ in range(10)]
    sync()
    Article.objects.filter(pk__in=[each.pk for each in articles[:gone]])._raw_delete(sqlite_pair.local)

    assert shell("--full", *QUIET) == (1 if left == 10 else 0)

    assert Article.objects.using(sqlite_pair.remote).count() == left


def rests_with_three_lockers() -> int:
    """Compare them one by one; return how often somebody else had a turn."""
    for number in (0, 1000, 2000):
        factories.make(Locker, number=number)
    sync()
    with patch("time.sleep") as rest:
        synchronize("shop.Locker", full=True, dry_run=True, sleep=0.5, batch_size=1)
    return rest.call_args_list.count(call(0.5))


def test_it_rests_after_each_batch(sqlite_pair: Pair) -> None:
    assert rests_with_three_lockers() == 3


def test_it_rests_after_each_checksum(postgres_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """On both sides: one checksum shows that a thousand keys hold one row, the next is of all the others."""
    monkeypatch.setattr(digests, "_FIRST_SPAN", 1000)
    monkeypatch.setattr(digests, "_SECONDS", 0)

    assert rests_with_three_lockers() == 2 + 2


def test_failures(sqlite_pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    ambiguous_twin(sqlite_pair)
    reset_synchro()

    assert shell("--full", "shop.Twin", *QUIET) == 1
    assert "1 object could not be repaired" in capsys.readouterr().err


def test_a_model_that_cannot_be_compared(sqlite_pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    diverge(sqlite_pair)
    with connections[sqlite_pair.remote].schema_editor() as editor:
        editor.delete_model(Seat)
    try:
        assert shell("--full", "shop", *QUIET) == 1
    finally:
        with connections[sqlite_pair.remote].schema_editor() as editor:
            editor.create_model(Seat)
    out, err = capsys.readouterr()
    assert "shop.Seat: no such table: shop_seat" in out
    assert "Not all models could be compared" in err
    assert Article.objects.using(sqlite_pair.remote).filter(title="New").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--dry-run"], "--dry-run needs --full."),
        (["shop.Article"], "model needs --full."),
        (["--full", "shop.Nothing"], "'shop.Nothing' is no watched model"),
        (["--full", "unwatched"], "'unwatched' is no watched model"),
        (["--full", "--max-delete=x"], "it must be a number such as 50, or 10%."),
        (["--full", "--since=x"], "it must be a date such as"),
        (["--full", "--batch-size=0"], "--batch-size must be at least 1"),
    ],
)
def test_what_it_does_not_understand(
    sqlite_pair: Pair, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert shell(*options, *QUIET) == 1
    assert sentence in capsys.readouterr().err


def test_a_bar_for_each_model(sqlite_pair: Pair) -> None:
    diverge(sqlite_pair)
    terminal = Terminal()

    synchronize(full=True, stderr=terminal)

    assert re.search(r"shop\.Article.*100%.* 1/1 ", terminal.getvalue())
    terminal = Terminal()
    synchronize(full=True, stderr=terminal, no_progress=True)
    assert terminal.getvalue() == ""
