"""Comparisons that a worker does, asked for by the command or by the page in the admin."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from unittest.mock import call, patch

import pytest
from django.test import Client, override_settings
from django.utils import timezone

from synchro.compare import Request, Watcher, queue, run
from synchro.exceptions import SynchroError, TransientError
from synchro.models import Comparison
from synchro.signals import comparison_requested
from synchro_tasks import dispatch, publisher
from synchro_tasks.progress import Progress
from tests import factories
from tests.assertions import assert_same_on_remote
from tests.celery_app import app
from tests.databases import Pair
from tests.integration.test_compare_command import QUIET
from tests.integration.test_synchronize_command import shell, synchronize
from tests.integration.test_view import press, staff, text, url
from tests.roads import sync
from tests.shop.models import Article


@pytest.fixture
def eager() -> Any:
    """Tasks run where they are queued."""
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def unlogged() -> Article:
    article = factories.article()
    sync()
    Article.objects.update(title="Unlogged")
    return article


@pytest.mark.usefixtures("eager")
def test_the_command_queues_it(sqlite_pair: Pair) -> None:
    article = unlogged()

    message, _, _ = synchronize("shop.article", full=True, background=True)

    assert message.startswith("The comparison was queued.")
    assert Comparison.objects.get().request["models"] == ["shop.article"]
    assert_same_on_remote(article)


def interrupted(request: Request) -> Comparison:
    """A comparison that was interrupted just now, and has looked at nothing."""
    with pytest.raises(KeyboardInterrupt), patch("synchro.compare.run._Run.compare", side_effect=KeyboardInterrupt):
        run(request)
    return Comparison.objects.latest("pk")


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("restart", [True, False])
def test_the_worker_is_told_how_fast_and_whether_to_begin_anew(sqlite_pair: Pair, restart: bool) -> None:
    unlogged()
    factories.article()
    old = interrupted(Request(models=("shop.Article",)))

    with patch("synchro.compare.run.time.sleep") as rest:
        options = {"batch_size": 1, "sleep": 0.5, "restart": restart}
        synchronize("shop.Article", full=True, background=True, **options)

    assert rest.call_args_list.count(call(0.5)) >= 2
    old.refresh_from_db()
    assert old.state == (Comparison.State.ABANDONED if restart else Comparison.State.FINISHED)


@pytest.mark.parametrize("option", ["--check", "--show=3", "--json"])
def test_what_only_a_report_can_do(sqlite_pair: Pair, capsys: pytest.CaptureFixture[str], option: str) -> None:
    """The command does not wait for the worker, so there is nothing to check and to show."""
    assert shell("--full", "--background", option, *QUIET) == 1
    name = option.partition("=")[0]
    assert f"{name} cannot be combined with --background, which does not wait" in capsys.readouterr().err


@pytest.mark.parametrize("pace", [{"batch_size": 0}, {"sleep": -1.0}])
def test_a_pace_that_means_nothing(sqlite_pair: Pair, pace: dict[str, Any]) -> None:
    for act in (queue, run):
        with pytest.raises(SynchroError, match="must"):
            act(Request(), **pace)


@pytest.mark.usefixtures("eager")
def test_the_button_begins_anew_when_asked(sqlite_pair: Pair) -> None:
    unlogged()
    browser = staff("synchronize", "view_changelog")
    for asked, state in (({}, Comparison.State.FINISHED), ({"restart": "on"}, Comparison.State.ABANDONED)):
        old = interrupted(Request())
        browser.post(url(), {"repair": "1", **asked})
        old.refresh_from_db()
        assert old.state == state


def test_the_page_shows_one_at_work(sqlite_pair: Pair) -> None:
    """How far it is, of how many, and again in a moment; one that was killed does not make the page move for ever."""
    for _ in range(3):
        factories.article()
    sync()
    browser = staff("synchronize", "view_changelog")
    pages = []

    class Look(Watcher):
        def advance(self, count: int) -> None:
            pages.append(text(browser))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Request(models=("shop.Article",), dry_run=True), watcher=Look(), batch_size=2)

    assert "running" in pages[0]
    assert "<td>2 of 3</td>" in pages[0]
    assert 'http-equiv="refresh"' in pages[0]
    assert 'http-equiv="refresh"' not in text(browser)
    Comparison.objects.update(state=Comparison.State.RUNNING)
    assert 'http-equiv="refresh"' in text(browser)
    Comparison.objects.update(updated_at=timezone.now() - timedelta(minutes=10))
    assert 'http-equiv="refresh"' not in text(browser)


@pytest.mark.usefixtures("eager")
def test_the_buttons(sqlite_pair: Pair) -> None:
    article = unlogged()
    browser = staff("synchronize", "view_changelog")

    assert press(browser, "compare")[0].startswith("The comparison was queued.")
    assert Article.objects.using(sqlite_pair.remote).get().title != "Unlogged"
    assert press(browser, "repair")[0].startswith("The comparison was queued.")

    assert_same_on_remote(article)
    page = re.sub(r"\s+", " ", text(browser))
    assert page.count("1 object compared") == 2
    assert "shop.Article 1 0 1 0 0 1 0 0" in re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page))


def test_the_buttons_need_a_permission(sqlite_pair: Pair) -> None:
    browser: Client = staff("view_changelog")
    assert 'name="repair"' not in text(browser)
    for button in ("compare", "repair"):
        assert browser.post("/synchro/", {button: "1"}).status_code in (403, 404)


def test_without_workers(sqlite_pair: Pair) -> None:
    comparison_requested.disconnect(dispatch.queue_comparison)
    try:
        with pytest.raises(SynchroError, match="needs the app synchro_tasks"):
            queue(Request())
        assert 'name="repair"' not in text(staff("synchronize", "view_changelog"))
    finally:
        comparison_requested.connect(dispatch.queue_comparison)


def test_the_broker_is_away(sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher, "publish", lambda *args, **kwargs: False)

    with pytest.raises(TransientError, match="nothing was queued"):
        queue(Request())


def test_the_request_is_looked_at_first(sqlite_pair: Pair) -> None:
    with pytest.raises(SynchroError, match="no watched model"):
        queue(Request(models=("nothing",)))
    with override_settings(SYNCHRO_REMOTE=None), pytest.raises(SynchroError, match="SYNCHRO_REMOTE"):
        queue(Request())


class Monitor:
    """Takes the events of a task."""

    name = "synchro_tasks.synchronize"

    def __init__(self) -> None:
        self.results: list[str] = []
        self.broker_is_away = False

    def send_event(self, kind: str, *, result: str, **options: Any) -> None:
        if self.broker_is_away:
            raise OSError("Connection refused")
        self.results.append(result)


def test_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Monitor()
    watcher = Progress(monitor)  # type: ignore[arg-type]

    watcher.begin("shop.City", 100, 10)
    watcher.advance(5)
    monkeypatch.setattr("synchro_tasks.progress._SECONDS", 0)
    watcher.begin("shop.Tag", 7, 0)
    watcher.advance(3)
    monitor.broker_is_away = True
    watcher.advance(1)
    monitor.broker_is_away = False
    watcher.advance(1)

    assert monitor.results == [
        "shop.City: 10 of 100 compared",
        "shop.Tag: 0 of 7 compared",
        "shop.Tag: 3 of 7 compared",
    ]


@pytest.mark.usefixtures("eager")
def test_the_list_of_comparisons(sqlite_pair: Pair) -> None:
    unlogged()
    queue(Request())
    comparison = Comparison.objects.get()
    viewer, other = staff("view_comparison"), staff("view_changelog")

    page = viewer.get("/admin/synchro/comparison/").content.decode()
    assert "Compared and repaired" in page
    details = viewer.get(f"/admin/synchro/comparison/{comparison.pk}/change/").content.decode()
    assert "shop.Article 1 0 1 0 0 1 0 0" in re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", details))
    assert 'name="_save"' not in details
    assert viewer.post(f"/admin/synchro/comparison/{comparison.pk}/delete/", {"post": "yes"}).status_code == 403
    assert viewer.get("/admin/synchro/comparison/add/").status_code == 403
    assert other.get("/admin/synchro/comparison/").status_code == 403
