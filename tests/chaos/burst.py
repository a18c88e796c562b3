"""Two hot objects that several writers change all the time, and workers that stand still amid everything."""

from __future__ import annotations

import time
from random import Random
from threading import Event, Thread

from django.conf import settings
from django.db import connections, transaction

from tests.chaos.verdict import Verdict, judge
from tests.chaos.world import World
from tests.shop.models import Article

_HOT = 2
_WRITERS = 3
_SECONDS_OF_A_ROUND = 0.4
_SECONDS_TO_DRAIN = 15.0
_ENOUGH_ROUNDS = 3


def run(world: World, seed: int, seconds: float) -> Verdict:
    """Let rounds of changes follow each other; both sides must be equal after each."""
    random = Random(seed)
    articles = [Article.objects.create(title=f"hot {number}") for number in range(_HOT)]
    for article in articles:
        world.pks[Article._meta.label, article.title] = str(article.pk)
    deadline = time.monotonic() + seconds
    rounds, verdict = 0, Verdict(failures=[], conclusive=False)
    while time.monotonic() < deadline and not verdict.failures:
        _round(world, random, [article.pk for article in articles])
        rounds += 1
        facts = {"rounds": rounds, "entries": world.count_entries(1, 2, 3, 4)}
        drained = world.drain(_SECONDS_TO_DRAIN)
        verdict = judge(world, drained=drained, conclusive=rounds >= _ENOUGH_ROUNDS, facts=facts)
    return verdict


def _round(world: World, random: Random, pks: list[int]) -> None:
    stop = Event()
    writers = [
        Thread(target=_write, args=(world, Random(random.random()), pks, stop), name=f"writer-{number}", daemon=True)
        for number in range(_WRITERS)
    ]
    for writer in writers:
        writer.start()
    deadline = time.monotonic() + _SECONDS_OF_A_ROUND
    while time.monotonic() < deadline:
        worker = random.choice(list(world.workers.values()))
        worker.pause()
        time.sleep(random.uniform(0, 0.1))
        worker.go_on()
        time.sleep(random.uniform(0, 0.05))
    stop.set()
    for writer in writers:
        writer.join()


def _write(world: World, random: Random, pks: list[int], stop: Event) -> None:
    while not stop.is_set():
        with transaction.atomic(using=settings.SYNCHRO_LOCAL):
            article = Article.objects.get(pk=random.choice(pks))
            article.words = random.randrange(1_000_000)
            article.save()
            world.note(f"change {article.title} words={article.words}")
            if random.random() < 0.2:
                time.sleep(random.uniform(0, 0.1))
        time.sleep(random.uniform(0, 0.01))
    connections.close_all()
