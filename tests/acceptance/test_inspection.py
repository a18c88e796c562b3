"""The commands of operators beside real workers."""

from __future__ import annotations

import json

import pytest

from synchro.models import Attempt, ChangeLog
from tests import factories
from tests.acceptance.processes import Site, wait_until
from tests.acceptance.steps import wait_until_nothing_is_pending
from tests.assertions import assert_same_on_remote
from tests.faults import ambiguous_twin
from tests.shop.models import Twin

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


def test_a_retried_change_arrives_at_once_without_a_checkpoint(site: Site) -> None:
    site.start_worker()
    twin = ambiguous_twin(site.pair)
    wait_until(lambda: ChangeLog.objects.retrying().exists(), "the attempt has failed")
    factories.article()
    status = json.loads(site.manage("synchro_status", "--json").stdout)
    assert status["models"]["shop.Twin"]["retrying"] == 1
    assert site.manage("synchro_status", "--max-lag", "0").returncode == 1
    explained = site.manage("synchro_explain", "shop.Twin", str(twin.pk)).stdout
    assert Attempt.objects.get().task_id in explained
    assert "More than one shop.Twin on REMOTE" in explained

    Twin.objects.using(site.pair.remote).latest("pk").delete()
    retried = site.manage("synchro_retry", "--object", "shop.Twin", str(twin.pk))

    assert retried.stdout == "1 change is tried again now.\n"
    wait_until_nothing_is_pending(site)
    assert_same_on_remote(twin)
    assert site.manage("synchro_status", "--max-lag", "0", "--max-failed", "0").returncode == 0
    assert "REMOTE's copy is the same." in site.manage("synchro_explain", "shop.Twin", str(twin.pk)).stdout
