"""What goes wrong, one thing after the other, decided by a seed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

import psycopg
from redis import Redis
from redis.exceptions import RedisError

from tests.acceptance.steps import children
from tests.celery_app import app
from tests.chaos.world import POOLS, World

Fault = Callable[[World, Random], None]

_GARBAGE = (b"garbage", b"[]", b"{}", b'{"body": "e30=", "headers": {}, "properties": {}}')
_FORGED: tuple[tuple[object, ...], ...] = (("auth.User", "1"), ("shop.Article", "x"), ("shop.Article",), ("", None))


def deck(random: Random) -> Iterator[Fault]:
    """Yield faults for ever: all of them in random order, and again."""
    while True:
        yield from random.sample(FAULTS, len(FAULTS))


def kill_a_worker(world: World, random: Random) -> None:
    world.workers[random.choice(list(POOLS))].kill()


def kill_a_child(world: World, random: Random) -> None:
    if pids := children(world.workers["prefork"]):
        with suppress(ProcessLookupError):
            os.kill(random.choice(pids), signal.SIGKILL)


def pause_a_worker(world: World, random: Random) -> None:
    worker = world.workers[random.choice(list(POOLS))]
    worker.pause()
    _while(random, 2)
    worker.go_on()


def stop_a_worker(world: World, random: Random) -> None:
    worker = world.workers[random.choice(list(POOLS))]
    if worker.is_running:
        worker.popen.send_signal(signal.SIGTERM)


def kill_redis(world: World, random: Random) -> None:
    world.site.servers.redis.kill()
    _while(random, 1)
    world.site.servers.redis.start()


def flush_redis(world: World, random: Random) -> None:
    world.site.flush_broker()


def freeze_redis(world: World, random: Random) -> None:
    with world.site.servers.redis.frozen():
        _while(random, 2)


def end_connections_to_remote(world: World, random: Random) -> None:
    _end_connections(world, world.site.pair.remote)


def end_connections_to_local(world: World, random: Random) -> None:
    _end_connections(world, world.site.pair.local)


def stop_remote(world: World, random: Random) -> None:
    world.site.servers.remote.stop()
    _while(random, 2)
    world.site.servers.remote.start()


def crash_remote(world: World, random: Random) -> None:
    world.site.servers.remote.crash()
    world.site.servers.remote.start()


def freeze_remote(world: World, random: Random) -> None:
    with world.site.servers.remote.frozen():
        _while(random, 2)


def crash_local(world: World, random: Random) -> None:
    world.site.servers.local.crash()
    _while(random, 0.5)
    world.site.servers.local.start()


def repeat_and_shuffle_tasks(world: World, random: Random) -> None:
    known = [(label, pk) for (label, _), pk in world.pks.copy().items()]
    for call in random.choices(known, k=min(100, 5 * len(known))):
        app.send_task("synchro_tasks.replicate", call)


def forge_tasks(world: World, random: Random) -> None:
    for arguments in _FORGED:
        app.send_task("synchro_tasks.replicate", arguments)


def queue_garbage(world: World, random: Random) -> None:
    with Redis.from_url(world.site.broker) as redis, suppress(RedisError):
        redis.lpush(f"{world.site.prefix}celery", random.choice(_GARBAGE))


def start_another_beat(world: World, random: Random) -> None:
    if len(world.beats) < 2:
        world.beats.append(world.site.start_beat())


def kill_a_beat(world: World, random: Random) -> None:
    random.choice(world.beats).kill()


FAULTS: tuple[Fault, ...] = (
    kill_a_worker,
    kill_a_child,
    pause_a_worker,
    stop_a_worker,
    kill_redis,
    flush_redis,
    freeze_redis,
    end_connections_to_remote,
    end_connections_to_local,
    stop_remote,
    crash_remote,
    freeze_remote,
    crash_local,
    repeat_and_shuffle_tasks,
    forge_tasks,
    queue_garbage,
    start_another_beat,
    kill_a_beat,
)


def _while(random: Random, most: float) -> None:
    time.sleep(random.uniform(0, most))


def _end_connections(world: World, alias: str) -> None:
    sql = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()
    """
    with suppress(psycopg.Error):
        world.query(alias, sql)
