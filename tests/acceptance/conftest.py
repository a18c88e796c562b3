from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings

from tests import servers
from tests.acceptance.processes import Site, connect_app
from tests.celery_app import app
from tests.databases import Pair


@pytest.fixture
def site(postgres_pair: Pair, tmp_path: Path) -> Iterator[Site]:
    """Two PostgreSQL databases and Redis; the test starts the workers. What the test saves is published to them."""
    broker = servers.redis()
    if broker is None:
        reason = servers.missing["redis"]
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    site = Site(postgres_pair, broker, tmp_path)
    options = {**settings.CELERY_BROKER_TRANSPORT_OPTIONS, "global_keyprefix": site.prefix}
    connect_app(app, broker, **options)
    yield site
    site.close()
    connect_app(app, settings.CELERY_BROKER_URL, **settings.CELERY_BROKER_TRANSPORT_OPTIONS)
