"""What may happen to rows whose target is deleted. A shelf is the target of each."""

from __future__ import annotations

from django.db import models


class Shelf(models.Model):
    name = models.CharField(max_length=30, default="")


class Bin(models.Model):
    shelf = models.ForeignKey(Shelf, on_delete=models.CASCADE)


class Box(models.Model):
    shelf = models.ForeignKey(Shelf, null=True, on_delete=models.SET_NULL)


def default_shelf() -> int | None:
    """Return the pk of the shelf named 'default'."""
    shelf = Shelf.objects.filter(name="default").first()
    return shelf.pk if shelf else None


class Crate(models.Model):
    shelf = models.ForeignKey(Shelf, null=True, default=default_shelf, on_delete=models.SET_DEFAULT)


class Safe(models.Model):
    shelf = models.ForeignKey(Shelf, on_delete=models.PROTECT)


class Rack(models.Model):
    shelf = models.ForeignKey(Shelf, on_delete=models.RESTRICT)


class Pile(models.Model):
    """The database does not know of this foreign key."""

    shelf = models.ForeignKey(Shelf, on_delete=models.DO_NOTHING, db_constraint=False)


class Category(models.Model):
    """A tree that is deleted with its root."""

    name = models.CharField(max_length=30)
    parent = models.ForeignKey("self", null=True, on_delete=models.CASCADE)
