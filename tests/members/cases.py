"""Run by tests/integration/test_swapped_user.py in a process whose user model is swapped."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.models import Group, Permission
from django.test import override_settings

from tests import factories
from tests.assertions import assert_in_step, assert_nothing_pending, assert_same_objects, counterpart
from tests.databases import Pair
from tests.members.models import Member, Post
from tests.roads import ROADS, Road, sync
from tests.shop.models import Profile

roads = pytest.mark.parametrize("bring", ROADS)


def member(**values: Any) -> Member:
    return factories.make(Member, email=f"{factories.unique('ann')}@example.com", **values)


def test_the_user_model_is_swapped() -> None:
    assert get_user_model() is Member


@roads
def test_members_with_groups_and_permissions(each_vendor: Pair, bring: Road) -> None:
    """Neither Group nor Permission is watched: groups come along, permissions are there with other keys."""
    ann = member(sponsor=member())
    ann.groups.set([Group.objects.create(name="editors"), Group.objects.create(name="writers")])
    ann.user_permissions.set(Permission.objects.order_by("-pk")[:2])

    bring()

    assert_same_objects(Member, Group)
    assert_nothing_pending()
    ann.groups.remove(Group.objects.get(name="editors"))
    ann.user_permissions.clear()
    ann.is_staff = True
    ann.save()

    bring()

    assert_same_objects(Member, Group)
    assert counterpart(ann).groups.using(each_vendor.remote).get().name == "writers"
    assert Permission.objects.using(each_vendor.remote).count() == Permission.objects.count()


@roads
@pytest.mark.parametrize("watched", [True, False])
def test_groups_have_their_permissions_where_they_are_watched(pair: Pair, bring: Road, watched: bool) -> None:
    """What is not watched comes as a row that something points to, without relations of its own."""
    with override_settings(SYNCHRO_MODELS=["members", *([("auth", "group")] if watched else [])]):
        editors = Group.objects.create(name="editors")
        editors.permissions.add(Permission.objects.order_by("pk")[3])
        member().groups.add(editors)

        bring()

        assert counterpart(editors).permissions.using(pair.remote).count() == watched
        assert_same_objects(Member, *([Group] if watched else []))


@roads
def test_what_points_to_members(each_vendor: Pair, bring: Road) -> None:
    ann, bob = member(), member()
    post = factories.make(Post, title="first", author=ann)
    post.readers.set([ann.pk, bob.pk])
    factories.make(Profile, user=bob, motto="mine")

    bring()

    assert_in_step(Member, Post, Profile)
    post.author = bob
    post.save()
    post.readers.remove(bob.pk)
    ann.delete()

    bring()

    assert_in_step(Member, Post, Profile)
    assert Post._base_manager.using(each_vendor.remote).get().author.email == bob.email


def test_a_member_that_remote_has_already(each_vendor: Pair) -> None:
    """Found by Django's own natural key of users, the USERNAME_FIELD."""
    theirs = factories.make(Member, email="ann@example.com", first_name="A.", using=each_vendor.remote)
    ours = factories.make(Member, email="ann@example.com", first_name="Ann")

    sync()

    assert counterpart(ours).pk == theirs.pk
    assert_in_step(Member)


def test_a_password_arrives_as_it_is(pair: Pair) -> None:
    ann = member()
    ann.set_password("secret")
    ann.save()

    sync()

    copy = counterpart(ann)
    with pair.reversed.active():
        assert authenticate(username=ann.email, password="secret") == copy


def test_a_member_is_deleted_with_its_memberships(pair: Pair) -> None:
    ann = member()
    ann.groups.add(Group.objects.create(name="editors"))
    sync()
    ann.delete()

    sync()

    assert_in_step(Member)
    assert not Member.objects.using(pair.remote).exists()
    assert Group.objects.using(pair.remote).count() == 1
