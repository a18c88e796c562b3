"""Every kind of many-to-many relation."""

from __future__ import annotations

from django.db import models

from synchro import NaturalKeyModel
from tests.unwatched.models import Genre


class Song(models.Model):
    title = models.CharField(max_length=50)


class Playlist(models.Model):
    """Automatic through tables: to a watched and to an unwatched model."""

    name = models.CharField(max_length=50)
    songs = models.ManyToManyField(Song, related_name="playlists")
    genres = models.ManyToManyField(Genre, related_name="playlists")


class Person(NaturalKeyModel):
    """Symmetrical with itself."""

    _natural_key = ("name",)

    name = models.CharField(max_length=50, unique=True)
    friends = models.ManyToManyField("self")


class Account(models.Model):
    """With itself, in one direction."""

    name = models.CharField(max_length=50)
    follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")


class Team(models.Model):
    """With a through model of its own, which has columns of its own and another foreign key to a member."""

    name = models.CharField(max_length=50)
    members = models.ManyToManyField(
        Person, through="shop.Membership", through_fields=("team", "person"), related_name="teams"
    )


class Membership(models.Model):
    team = models.ForeignKey(Team, on_delete=models.CASCADE)
    person = models.ForeignKey(Person, on_delete=models.CASCADE)
    role = models.CharField(max_length=30, default="player")
    inviter = models.ForeignKey(Person, null=True, on_delete=models.SET_NULL, related_name="invitations")


class Club(models.Model):
    """Its members may be players that point back to it."""

    name = models.CharField(max_length=50)
    guests = models.ManyToManyField("shop.Player", related_name="guest_at")


class Player(models.Model):
    name = models.CharField(max_length=50)
    club = models.ForeignKey(Club, on_delete=models.CASCADE)


class Station(models.Model):
    """Symmetrical with itself, with a through model of its own."""

    name = models.CharField(max_length=50)
    neighbours = models.ManyToManyField("self", through="shop.Track")


class Track(models.Model):
    one = models.ForeignKey(Station, on_delete=models.CASCADE, related_name="+")
    other = models.ForeignKey(Station, on_delete=models.CASCADE, related_name="+")
    length = models.IntegerField(default=1)
