"""Bugs of django-synchro 0.x that no other test is about."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from typing import Any

from django.contrib.contenttypes.models import ContentType, ContentTypeManager
from django.test import override_settings
from django.utils import timezone

from synchro import engine
from synchro.models import ChangeLog
from synchro.signals import object_synced
from tests.assertions import assert_nothing_pending
from tests.databases import Pair
from tests.shop.models import Article, Country


def test_the_key_of_a_deleted_object_is_no_program(sqlite_pair: Pair, tmp_path: Path) -> None:
    """0.x kept it as Python and gave it to eval()."""
    made = tmp_path / "made"
    type_id = ContentType.objects.get_for_model(Country).pk
    for key in ([f"__import__('pathlib').Path({str(made)!r}).touch()"], f"Path({str(made)!r}).touch()"):
        ChangeLog.objects.create(
            content_type_id=type_id,
            object_id="7",
            action=ChangeLog.Action.DELETE,
            date=timezone.now(),
            natural_key=key,
        )

    engine.sync_pending()

    assert not made.exists()


def test_content_types_are_django_s_own(sqlite_pair: Pair) -> None:
    """0.x gave ContentType another manager and another natural key."""
    assert type(ContentType.objects) is ContentTypeManager
    assert ContentType.natural_key.__module__ == ContentType.__module__
    assert ContentType.objects.get_for_model(Article).natural_key() == ("shop", "article")


@override_settings(SYNCHRO_BATCH_SIZE=50)
def test_a_backlog_is_not_loaded_into_memory(sqlite_pair: Pair) -> None:
    """Four times as many changes take no more memory at any one time."""
    for _ in range(2):  # what is made once and kept
        _peak(100)

    assert _peak(800) < 1.5 * _peak(200)


def _peak(count: int) -> int:
    """Synchronize so many changes; return the memory that it took at most, in bytes."""
    type_id = ContentType.objects.get_for_model(Article).pk
    articles = Article.objects.bulk_create(Article(title="a", text="x" * 1000) for _ in range(count))
    values = {"content_type_id": type_id, "action": ChangeLog.Action.ADD, "date": timezone.now()}
    ChangeLog.objects.bulk_create(ChangeLog(object_id=str(each.pk), **values) for each in articles)
    del articles
    object_synced.connect(_collect)
    tracemalloc.start()
    try:
        engine.sync_pending()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        object_synced.disconnect(_collect)
        assert_nothing_pending()


def _collect(**kwargs: Any) -> None:
    """Free what only points to itself, after each batch: when Python does so by itself is a matter of chance."""
    gc.collect()
