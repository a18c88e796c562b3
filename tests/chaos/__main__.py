"""Run chaos once: ``python -m tests.chaos --seed 1 --seconds 60``."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import FrameType
from typing import NoReturn

import django

from tests.private import LOCAL, REMOTE, PrivateServers


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="dev.py chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="decides what happens; the time without")
    parser.add_argument("--seconds", type=float, default=60, help="how long things go wrong")
    parser.add_argument("--burst", action="store_true", help="only two hot objects, and workers that stand still")
    parser.add_argument("--mutant", default="", help="break the protocol in a way that must be found: tests/mutants.py")
    return parser.parse_args()


def end(number: int, frame: FrameType | None) -> NoReturn:
    """End in order; another signal must not disturb that."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(130)


def main() -> int:
    """Start servers and processes of our own, run, tell, and leave nothing behind."""
    arguments = parse()
    signal.signal(signal.SIGTERM, end)
    servers = PrivateServers()
    try:
        servers.start()
        broker, prefix = servers.redis.url, f"synchro-chaos-{uuid.uuid4().hex}:"
        os.environ |= servers.environment | {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "SYNCHRO_TEST_LOCAL": LOCAL,
            "SYNCHRO_TEST_REMOTE": REMOTE,
            "SYNCHRO_TEST_BROKER": broker,
            "SYNCHRO_TEST_PREFIX": prefix,
        }
        django.setup()
        # Only now can models be imported; without the Celery app nothing could be queued.
        from tests import celery_app  # noqa: F401
        from tests.acceptance.processes import PrivateSite
        from tests.chaos.world import World
        from tests.databases import Pair, prepare

        pair = Pair(LOCAL, REMOTE)
        prepare(pair.local)
        prepare(pair.remote)
        stalls = "0.1" if arguments.burst else "0.02"
        environment = {"SYNCHRO_TEST_MUTANT": arguments.mutant, "SYNCHRO_TEST_STALLS": stalls}
        with tempfile.TemporaryDirectory(prefix="synchro-chaos-") as directory:
            site = PrivateSite(pair, broker, Path(directory), prefix, servers=servers)
            try:
                world = World(site, environment)
                world.start()
                mode = importlib.import_module(f"tests.chaos.{'burst' if arguments.burst else 'mixed'}")
                verdict = mode.run(world, arguments.seed, arguments.seconds)
            finally:
                site.close()
    finally:
        servers.close()
    for line in verdict.failures:
        print(line)
    print(f"seed {arguments.seed}: {verdict.word} {dict(verdict.facts)}")
    return int(verdict.code)


if __name__ == "__main__":
    sys.exit(main())
