"""A router of the project that refuses relations between the databases: a copy reads LOCAL and writes REMOTE."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.test import override_settings

from tests import factories
from tests.assertions import assert_in_step
from tests.databases import Pair
from tests.handlers.models import Agent, Shipment
from tests.roads import ROADS, Road
from tests.shop.models import City, Comment, Country, Employee, Pizzeria, Playlist, Song, Street, Town


class Stubborn:
    """Sends everything to LOCAL, also what belongs to REMOTE, and lets nothing of one be related to the other."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return str(settings.SYNCHRO_LOCAL)

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return str(settings.SYNCHRO_LOCAL)

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool:
        return False

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return False


@pytest.mark.parametrize("bring", ROADS)
@pytest.mark.parametrize("listened", [False, True], ids=["in bulk", "with handlers"])
def test_a_router_that_refuses_relations(each_vendor: Pair, bring: Road, listened: bool) -> None:
    country, agent = factories.country(), factories.agent()
    objects: list[Any] = [
        factories.city(country=country),
        factories.employee(manager=factories.employee()),
        factories.make(Street, name="Main St", town=factories.make(Town, name="Kehl")),
        factories.pizzeria(),
        factories.playlist(factories.song()),
        factories.shipment(agent=agent),
        factories.make(Comment, content_type=type_of(Country, each_vendor), object_id=str(country.pk)),
    ]
    objects[-2].stops.add(agent)
    models = (Country, City, Employee, Street, Pizzeria, Playlist, Song, Shipment, Agent, Comment)

    def heard(**kwargs: Any) -> None:
        pass

    senders: dict[Any, list[Any]] = {
        post_save: [*models],
        post_delete: [*models],
        m2m_changed: [Shipment.stops.through],
    }
    if listened:
        for signal, its_senders in senders.items():
            for sender in its_senders:
                signal.connect(heard, sender=sender)
    try:
        for change in (lambda each: None, lambda each: each.save(), lambda each: each.delete()):
            for each in objects:
                change(each)
            with override_settings(DATABASE_ROUTERS=[Stubborn()]):
                bring()
            assert_in_step(*models)
    finally:
        for signal, its_senders in senders.items():
            for sender in its_senders:
                signal.disconnect(heard, sender=sender)


def type_of(model: type[Model], pair: Pair) -> ContentType:
    return ContentType.objects.db_manager(pair.local).get_for_model(model)
