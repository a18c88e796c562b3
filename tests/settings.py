"""Settings of the test project: several pairs of databases, of which each test chooses LOCAL and REMOTE.

The processes that acceptance tests start read the same settings; the environment tells them which databases to use.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

from tests import servers

#: Part of every name that this run makes, so that several runs can share a server. Child processes get their parent's.
RUN = os.environ.get("SYNCHRO_TEST_RUN") or str(os.getpid())
#: SQLite files, logs of processes. The test run makes it and removes it.
DIRECTORY = Path(tempfile.gettempdir()) / f"synchro-tests-{RUN}"

SECRET_KEY = "only for tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.postgres",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_celery_beat",
    "synchro",
    "synchro_tasks",
    "tests.shop",
    "tests.values",
    "tests.arrays",
    "tests.handlers",
    "tests.unwatched",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

#: Apps whose tables are made straight from their models.
TEST_APPS = ["shop", "values", "arrays", "handlers", "unwatched"]
MIGRATION_MODULES = dict.fromkeys(TEST_APPS)


def _sqlite(name: str) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(DIRECTORY / f"{name}.sqlite3"),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;",
        },
    }


# "default" has no tables at all: code that forgets to name a database fails at once. Of each vendor there are two
# databases, and one that synchro is not migrated to ("bare").
DATABASES: dict[str, dict[str, Any]] = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
for _side in ("a", "b", "bare"):
    DATABASES[f"sqlite_{_side}"] = _sqlite(f"sqlite_{_side}")
    for _vendor, _server in (("postgres", servers.postgres()), ("mariadb", servers.mariadb())):
        if _server is not None:
            DATABASES[f"{_vendor}_{_side}"] = {**_server, "NAME": f"synchro_test_{RUN}_{_vendor}_{_side}"}

# Servers that one test run has for itself, so that it may stop them: LOCAL's and REMOTE's.
for _side in ("local", "remote"):
    if _url := os.environ.get(f"SYNCHRO_TEST_{_side.upper()}_SERVER"):
        _name = f"synchro_test_{RUN}_postgres_{_side}"
        DATABASES[f"postgres_{_side}"] = {**servers.postgres_at(_url), "NAME": _name}

DATABASE_ROUTERS = ["tests.routers.LocalRouter"]

SYNCHRO_LOCAL = os.environ.get("SYNCHRO_TEST_LOCAL", "sqlite_a")
SYNCHRO_REMOTE = os.environ.get("SYNCHRO_TEST_REMOTE", "sqlite_b")
SYNCHRO_MAX_ATTEMPTS = int(os.environ.get("SYNCHRO_TEST_MAX_ATTEMPTS", "10"))
SYNCHRO_MODELS = ["shop", "values", "handlers"]

# As the documentation recommends it: every task runs at least once.
CELERY_BROKER_URL = os.environ.get("SYNCHRO_TEST_BROKER", "memory://")
SYNCHRO_TASK_QUEUE = os.environ.get("SYNCHRO_TEST_QUEUE")
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = {"visibility_timeout": 900, "unacked_restore_throttle": 1}
if "SYNCHRO_TEST_PREFIX" in os.environ:
    # Each acceptance test has its own keys in Redis, so that it sees no message of another.
    CELERY_BROKER_TRANSPORT_OPTIONS["global_keyprefix"] = os.environ["SYNCHRO_TEST_PREFIX"]
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
CELERY_DB_REUSE_MAX = 1000
