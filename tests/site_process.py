"""A project of its own: runs the functions below as the lines of its standard input name them, and prints the results.

Started by tests.sites. Its clock may be wrong.
"""

from __future__ import annotations

import json
import os
import random
import sys
from datetime import timedelta
from typing import Any

from django.utils import timezone

_right = timezone.now
_OFFSET = timedelta(minutes=float(os.environ.get("SYNCHRO_TEST_CLOCK", "0")))
timezone.now = lambda: _right() + _OFFSET

import django  # noqa: E402 -- the clock comes first

django.setup()

from django.apps import apps  # noqa: E402
from django.db import IntegrityError, OperationalError, transaction  # noqa: E402

from synchro import call_synchronize  # noqa: E402
from synchro.exceptions import TransientError  # noqa: E402
from tests.shop.models import Article, Playlist, Product, Song  # noqa: E402


def create(title: str) -> int:
    return Article.objects.create(title=title).pk


def edit(old: str, new: str) -> None:
    article = Article.objects.get(title=old)
    article.title = new
    article.save()


def delete(title: str) -> None:
    Article.objects.get(title=title).delete()


def titles() -> list[str]:
    return sorted(Article.objects.values_list("title", flat=True))


def has_tasks() -> bool:
    return apps.is_installed("synchro_tasks")


def synchronize() -> str:
    return call_synchronize()


def work(seed: int, steps: int) -> int:
    """Do what users do, at random, and synchronize now and then; return how often that met the other side."""
    chance = random.Random(seed)
    met = 0
    for number in range(steps):
        try:
            if number % 5 == 4:
                call_synchronize()
            else:
                with transaction.atomic():
                    _change_something(chance, f"{seed}-{number}")
        except (OperationalError, IntegrityError, TransientError):
            met += 1  # the other side's lock, or its row that points to a deleted one: a user would try again
    return met


def _change_something(chance: random.Random, text: str) -> None:
    model: Any = chance.choice([Article, Playlist, Product, Song])
    found = list(model.objects.order_by("pk"))
    action = chance.choice(["create", "change", "change", "change", "delete", "link"])
    if not found or action == "create":
        values = {"sku": f"sku-{chance.randrange(8)}", "name": text} if model is Product else {_TEXT[model]: text}
        if model is not Product or not Product.objects.filter(sku=values["sku"]).exists():
            model.objects.create(**values)
        return
    each = chance.choice(found)
    if action == "delete":
        each.delete()
    elif action == "link" and model is Playlist:
        songs = list(Song.objects.all())
        each.songs.set(chance.sample(songs, min(len(songs), 2)))
    else:
        setattr(each, "name" if model is Product else _TEXT[model], text)
        each.save()


_TEXT = {Article: "title", Playlist: "name", Song: "title"}


def main() -> None:
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"result": globals()[name](*arguments)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
