"""The road from a save on LOCAL to REMOTE: additions, changes, deletes, batches."""

from __future__ import annotations

from synchro import engine
from synchro.models import Reference
from tests import factories
from tests.assertions import assert_not_on_remote, assert_nothing_pending, assert_same_on_remote
from tests.databases import Pair
from tests.shop.models import Article


def test_an_added_object_arrives(each_vendor: Pair) -> None:
    article = factories.article()

    report = engine.sync_pending()

    assert report.synced == 1
    assert_same_on_remote(article)
    assert_nothing_pending()


def test_a_changed_object_is_updated_in_place(each_vendor: Pair) -> None:
    article = factories.article()
    engine.sync_pending()
    before = Reference.objects.get().remote_object_id

    article.title = "Changed"
    article.save()
    engine.sync_pending()

    assert Reference.objects.get().remote_object_id == before
    assert_same_on_remote(article)
    assert Article.objects.using(each_vendor.remote).count() == 1


def test_a_deleted_object_is_deleted(each_vendor: Pair) -> None:
    article = factories.article()
    engine.sync_pending()

    article.delete()
    engine.sync_pending()

    assert_not_on_remote(Article)
    assert_nothing_pending()
    assert Reference.objects.count() == 0
    assert Reference.objects.using(each_vendor.remote).count() == 0
