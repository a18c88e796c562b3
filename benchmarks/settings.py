"""Settings of the benchmark project: two PostgreSQL databases and a part of a Redis of its own.

The worker processes that a run starts read the same settings; SYNCHRO_BENCHMARK_RUN tells them whose databases to use.
"""

from __future__ import annotations

import os
from typing import Any

from psycopg.conninfo import conninfo_to_dict

#: Part of every name that this run makes, so that several runs can share a server.
RUN = os.environ.setdefault("SYNCHRO_BENCHMARK_RUN", str(os.getpid()))

POSTGRES_URL = os.environ.get("SYNCHRO_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")
REDIS_URL = os.environ.get("SYNCHRO_REDIS", "redis://127.0.0.1:6379/14")
#: Publishing is measured there, too, if it answers.
RABBITMQ_URL = os.environ.get("SYNCHRO_RABBITMQ", "amqp://guest:guest@127.0.0.1:5672//")
REDIS_PREFIX = f"synchro-benchmark-{RUN}:"


def _postgres(side: str) -> dict[str, Any]:
    parts = conninfo_to_dict(POSTGRES_URL)
    login = {name.upper(): str(parts.get(name, "")) for name in ("host", "port", "user", "password")}
    return {"ENGINE": "django.db.backends.postgresql", "NAME": f"synchro_benchmark_{RUN}_{side}", **login}


DATABASES = {"default": _postgres("local"), "remote": _postgres("remote")}

SECRET_KEY = "only for benchmarks"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
#: The test project's models are there for what is measured for every kind of model.
INSTALLED_APPS = [
    *("django.contrib.contenttypes", "django.contrib.auth", "synchro", "synchro_tasks", "benchmarks"),
    *("tests.shop", "tests.values", "tests.handlers", "tests.unwatched"),
]

SYNCHRO_LOCAL = "default"
SYNCHRO_REMOTE = "remote"
SYNCHRO_MODELS = [("benchmarks", "Row", "Numbered", "Shuffled"), "shop", "values", "handlers"]

# As the documentation recommends it: every task runs at least once.
CELERY_BROKER_URL = REDIS_URL
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "visibility_timeout": 900,
    "unacked_restore_throttle": 1,
    "global_keyprefix": REDIS_PREFIX,
}
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_DB_REUSE_MAX = 1000
