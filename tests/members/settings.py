"""Settings of a project whose AUTH_USER_MODEL is its own, and which watches it."""

from __future__ import annotations

from tests.settings import *  # noqa: F403 -- a project's settings, but for what follows
from tests.settings import INSTALLED_APPS as APPS

AUTH_USER_MODEL = "members.Member"
INSTALLED_APPS = [*APPS, "tests.members"]
SYNCHRO_MODELS = ["members", "shop", "values", "handlers"]
