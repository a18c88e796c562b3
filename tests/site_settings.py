"""Settings of one of two projects that synchronize to each other: its own database is 'default', the other 'remote'.

The environment tells which of the test run's databases these are.
"""

from __future__ import annotations

from tests.settings import *  # noqa: F403 -- a project's settings, but for what follows
from tests.settings import DATABASES as ALL
from tests.settings import SYNCHRO_LOCAL as OWN
from tests.settings import SYNCHRO_REMOTE as OTHER

DATABASES = {"default": ALL[OWN], "remote": ALL[OTHER]}
DATABASE_ROUTERS = []
SYNCHRO_LOCAL = "default"
SYNCHRO_REMOTE = "remote"
