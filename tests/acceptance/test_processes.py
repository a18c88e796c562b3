"""The helpers that other acceptance tests trust."""

from __future__ import annotations

import pytest
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from tests.acceptance.processes import Site, wait_until
from tests.celery_app import app

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


def test_a_worker_takes_what_this_process_publishes_and_nothing_outlives_the_test(site: Site) -> None:
    app.send_task("celery.accumulate", [1, 2])
    assert site.queue_length() == 1

    worker = site.start_worker()
    worker.wait_for("succeeded in")
    wait_until(lambda: site.queue_length() == 0, "the queue is empty")

    worker.kill()
    assert not worker.is_running
    app.send_task("celery.accumulate", [1, 2])
    assert site.forget_messages() >= 1
    assert site.queue_length() == 0


def test_beat_reads_its_schedule_from_local(site: Site) -> None:
    each_second = IntervalSchedule.objects.create(every=1, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.create(name="tick", task="celery.accumulate", interval=each_second)

    beat = site.start_beat()

    wait_until(lambda: site.queue_length() >= 2, f"beat has queued two tasks: {beat.log}")
    assert beat.is_running


def test_a_management_command_uses_the_site_s_databases(site: Site) -> None:
    done = site.manage("shell", "--command", "from django.conf import settings; print(settings.SYNCHRO_REMOTE)")

    assert done.returncode == 0, done.stderr
    assert site.pair.remote in done.stdout
