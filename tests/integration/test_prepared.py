"""Queries about one object whose text is ready give the same rows as the queries that they were made from."""

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Max, QuerySet

from synchro.models import ChangeLog, Reference
from synchro.prepared import ask
from tests import factories
from tests.databases import Pair
from tests.queries import queries
from tests.roads import sync
from tests.shop.models import Article


def newest(ids: Collection[str]) -> QuerySet[Any, Any]:
    log = ChangeLog.objects.unsettled().of_objects(Article, ids).order_by()
    return log.values_list("object_id", "action").annotate(Max("date"), Max("id"))


@pytest.mark.parametrize("use_tz", [True, False])
def test_the_rows_are_those_of_the_query(each_vendor: Pair, settings: Any, use_tz: bool) -> None:
    settings.USE_TZ = use_tz
    ids = [str(factories.article().pk) for _ in range(3)]

    for each in [*ids, "", "'", "%s"]:
        found = ask([each], newest, using=each_vendor.local, key="test")
        assert [tuple(row) for row in found] == list(newest([each]))
    assert sorted(ask(ids, newest, using=each_vendor.local, key="test")) == sorted(newest(ids))
    assert list(ask([], newest, using=each_vendor.local, key="test")) == []


def test_locked_rows_and_identities_are_those_of_the_query(each_vendor: Pair) -> None:
    articles = [factories.article() for _ in range(2)]
    sync()
    identity = Reference.objects.using(each_vendor.remote).values_list("peer", flat=True)[0]

    def locked(ids: Collection[str]) -> QuerySet[Any, Any]:
        mirrors = Reference.objects.using(each_vendor.remote).filter(peer=identity, remote_object_id__in=ids)
        return mirrors.order_by("id").select_for_update().values_list("id", "peer", "remote_object_id")

    for article in articles:
        with transaction.atomic(using=each_vendor.remote):
            found = ask([str(article.pk)], locked, using=each_vendor.remote, key="test")
            assert [tuple(row) for row in found] == list(locked([str(article.pk)])) != []


def test_the_text_is_composed_once_for_each_key(each_vendor: Pair) -> None:
    type_ids = [ContentType.objects.db_manager(each_vendor.local).get_for_model(Article).pk, 0]
    article = factories.article()
    composed = []
    run = uuid.uuid4()

    def ask_for(type_id: int) -> list[Any]:
        def compose(ids: Collection[str]) -> QuerySet[Any, Any]:
            composed.append(type_id)
            log = ChangeLog.objects.using(each_vendor.local).filter(object_id__in=ids, content_type_id=type_id)
            return log.values_list("object_id")

        return list(ask([str(article.pk)], compose, using=each_vendor.local, key=(run, type_id)))

    with queries(each_vendor.local) as asked:
        found = [ask_for(type_id) for type_id in [*type_ids, *type_ids]]

    assert len(asked) == 4
    assert [len(rows) for rows in found] == [1, 0, 1, 0]
    assert composed == type_ids
