"""Settings of one of two projects that synchronize to each other: its own database is 'default', the other 'remote'.

Neither has Celery: both synchronize by command.

The environment tells which of the test run's databases these are.
"""

from __future__ import annotations

from tests.settings import *  # noqa: F403 -- a project's settings, but for what follows
from tests.settings import DATABASES as ALL
from tests.settings import INSTALLED_APPS as APPS
from tests.settings import SYNCHRO_LOCAL as OWN
from tests.settings import SYNCHRO_REMOTE as OTHER

DATABASES = {"default": ALL[OWN], "remote": ALL[OTHER]}
DATABASE_ROUTERS = []
INSTALLED_APPS = [app for app in APPS if app not in ("synchro_tasks", "django_celery_beat")]
SYNCHRO_LOCAL = "default"
SYNCHRO_REMOTE = "remote"
