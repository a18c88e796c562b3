"""The page with the buttons: who may use it, what it shows, and how it tells what went wrong."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connections
from django.test import Client, override_settings
from django.urls import include, path, reverse
from django.utils import timezone
from django.utils.html import escape

from synchro import engine
from synchro.exceptions import TransientError
from synchro.models import ChangeLog, Hold, Reference, options
from synchro.views import SynchroView
from tests import factories
from tests.assertions import assert_nothing_pending, assert_same_on_remote
from tests.databases import Pair, prepare
from tests.faults import ambiguous_twin, unreachable
from tests.queries import queries
from tests.shop.models import Article
from tests.threads import PATIENCE, in_thread
from tests.translations import translated

SUCCESS = "Synchronization performed successfully."
NOTHING = "No changes since last synchronization."
PERMISSIONS = ("view_changelog", "synchronize", "reset")
SYNCHRO_BUTTON, RESET_BUTTON = 'name="synchro"', 'name="reset"'


def url() -> str:
    return reverse("synchro:synchro")


def staff(*permissions: str, is_staff: bool = True) -> Client:
    """Return the browser of a user who is logged in."""
    user = factories.user(is_staff=is_staff)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="synchro", codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def press(client: Client, button: str) -> list[str]:
    """Press a button and return the messages of the page that is shown then."""
    response = client.post(url(), {button: "1"})
    assert response.status_code == 302
    assert response["Location"] == url()
    return shown(client)


def shown(client: Client) -> list[str]:
    """Return the messages on the page."""
    response = client.get(url())
    assert response.status_code == 200
    return re.findall(r'<li class="(?:success|error|warning)">(.*?)</li>', response.content.decode(), re.DOTALL)


def text(client: Client, **headers: Any) -> str:
    """Return the page with its whitespace squeezed."""
    return " ".join(client.get(url(), **headers).content.decode().split())


@pytest.fixture
def browser(sqlite_pair: Pair) -> Client:
    """The browser of somebody who may do everything on the page."""
    return staff(*PERMISSIONS)


# Who


def test_a_stranger_is_sent_to_the_login(sqlite_pair: Pair, client: Client) -> None:
    for response in (client.get(url()), client.post(url(), {"synchro": "1"})):
        assert response.status_code == 302
        assert response["Location"] == f"/admin/login/?next={url()}"


def test_a_user_who_is_no_member_of_the_staff_is_sent_to_the_login(sqlite_pair: Pair) -> None:
    response = staff(*PERMISSIONS, is_staff=False).get(url())

    assert response.status_code == 302


def test_staff_without_permission_is_refused(sqlite_pair: Pair) -> None:
    client = staff("add_changelog", "view_reference")

    assert client.get(url()).status_code == 403
    assert client.post(url(), {"synchro": "1"}).status_code == 403


@pytest.mark.parametrize(
    ("permission", "buttons"),
    [("view_changelog", set()), ("synchronize", {SYNCHRO_BUTTON}), ("reset", {RESET_BUTTON})],
)
def test_each_permission_shows_its_own_button(sqlite_pair: Pair, permission: str, buttons: set[str]) -> None:
    page = text(staff(permission))

    assert {button for button in (SYNCHRO_BUTTON, RESET_BUTTON) if button in page} == buttons


@pytest.mark.parametrize(("button", "permission"), [("synchro", "synchronize"), ("reset", "reset")])
def test_each_button_asks_for_its_own_permission(sqlite_pair: Pair, button: str, permission: str) -> None:
    factories.article()
    others = [each for each in PERMISSIONS if each != permission]

    assert staff(*others).post(url(), {button: "1"}).status_code == 403
    assert ChangeLog.objects.pending().count() == 1
    assert staff(permission).post(url(), {button: "1"}).status_code == 302
    assert ChangeLog.objects.pending().count() == 0


def test_forms_carry_a_token(sqlite_pair: Pair, admin_user: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    factories.article()

    assert client.post(url(), {"synchro": "1"}).status_code == 403
    assert ChangeLog.objects.pending().count() == 1

    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', text(client))
    assert token is not None
    response = client.post(url(), {"synchro": "1", "csrfmiddlewaretoken": token[1]})
    assert response.status_code == 302
    assert_nothing_pending()


# The buttons


def test_synchronize(browser: Client) -> None:
    article = factories.article()

    assert press(browser, "synchro") == [SUCCESS]
    assert_same_on_remote(article)
    assert press(browser, "synchro") == [NOTHING]


def test_two_clicks_do_what_one_does(pair: Pair) -> None:
    articles = [factories.article() for _ in range(20)]
    client = staff("synchronize")

    clicks = [in_thread(client.post, url(), {"synchro": "1"}) for _ in range(2)]

    assert [click.result(PATIENCE).status_code for click in clicks] == [302, 302]
    assert_nothing_pending()
    assert Article.objects.using(pair.remote).count() == len(articles)


def test_reset(browser: Client) -> None:
    article = factories.article()
    engine.sync_pending()
    factories.article()

    assert press(browser, "reset") == ["Synchronization has been reset."]
    assert ChangeLog.objects.count() == 0
    assert Reference.objects.count() == 0
    assert Article.objects.filter(pk=article.pk).exists()


@override_settings(SYNCHRO_ALLOW_RESET=False)
def test_reset_is_refused_where_it_is_switched_off(browser: Client) -> None:
    factories.article()

    assert RESET_BUTTON not in text(browser)
    assert press(browser, "reset") == [
        "Resetting is switched off here. Set SYNCHRO_ALLOW_RESET = True to allow it.",
    ]
    assert ChangeLog.objects.pending().count() == 1


def test_a_post_without_a_button_does_nothing(browser: Client) -> None:
    factories.article()

    assert browser.post(url()).status_code == 400
    assert ChangeLog.objects.pending().count() == 1


def test_no_transaction_is_open_meanwhile(browser: Client, sqlite_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """LOCAL would otherwise stay locked while REMOTE is written."""
    for alias in (sqlite_pair.local, sqlite_pair.remote):
        monkeypatch.setitem(connections.settings[alias], "ATOMIC_REQUESTS", True)
    seen: list[bool] = []

    def look(**kwargs: Any) -> engine.Report:
        seen.extend(connections[alias].in_atomic_block for alias in (sqlite_pair.local, sqlite_pair.remote))
        return engine.Report()

    monkeypatch.setattr(engine, "sync_pending", look)
    press(browser, "synchro")

    assert seen == [False, False]


# What it shows


def test_before_the_first_time(browser: Client) -> None:
    page = text(browser)

    assert "Never synchronized with “sqlite_b”." in page
    assert "Nothing is pending." in page


def test_the_last_check(browser: Client) -> None:
    options.checked(timezone.now() - timedelta(hours=2))

    assert re.search(r"Last synchronized with “sqlite_b”: .* \(2\shours ago\)\.", text(browser))


def test_the_last_checkpoint(browser: Client) -> None:
    assert "checkpoint" not in text(browser)
    options.checkpoint_ended(timezone.now() - timedelta(hours=2))

    assert re.search(r"The last checkpoint ended 2\shours ago\.", text(browser))


def test_how_many_are_pending_and_since_when(browser: Client) -> None:
    factories.article()
    assert re.search(r"1 change is pending, for 0\sminutes\.", text(browser))

    factories.article()
    ChangeLog.objects.filter(pk=ChangeLog.objects.order_by("pk")[0].pk).update(date=timezone.now() - timedelta(days=3))
    assert re.search(r"2 changes are pending, the oldest of them for 3\sdays\.", text(browser))


def test_how_many_are_in_each_state(browser: Client) -> None:
    for count, state in enumerate(ChangeLog.State, start=2):
        for _ in range(count):
            factories.article()
        ChangeLog.objects.filter(pk__in=ChangeLog.objects.order_by("-pk")[:count].values("pk")).update(state=state)

    page = text(browser)

    row = page.partition('<th scope="row">shop.Article</th>')[2].partition("</tr>")[0]
    log = "/admin/synchro/changelog/?is="
    assert re.findall(r"<td>(.*?)</td>", row)[:-1] == [
        f'<a href="{log}pending&amp;model=shop.Article">2</a>',
        "0",
        "0",
        f'<a href="{log}failed&amp;model=shop.Article">4</a>',
        f'<a href="{log}skipped&amp;model=shop.Article">5</a>',
        f'<a href="{log}discarded&amp;model=shop.Article">6</a>',
    ]
    assert "4 changes failed too often." in page


def test_what_is_left_alone_for_now(browser: Client) -> None:
    Hold.objects.hold("", "<No> answer.")
    Hold.objects.hold("shop.Article", "No such column.")

    page = text(browser)

    assert re.search(r"REMOTE has been left alone for 0\sminutes: &lt;No&gt; answer\.", page)
    assert re.search(r"shop\.Article has been held back for 0\sminutes: No such column\.", page)


def test_where_counting_ended(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synchro.inspection.status.COUNTED", 1)
    factories.article()

    assert "Of each model and state at most " in text(browser)


def test_each_press_of_a_button_is_in_the_admin_log(sqlite_pair: Pair, browser: Client) -> None:
    ambiguous_twin(sqlite_pair)
    for button in ("synchro", "reset", "synchro"):
        press(browser, button)

    logged = LogEntry.objects.order_by("pk")
    assert [(each.change_message, each.object_id) for each in logged] == [
        ("synchro.synchronize: failed", None),
        ("synchro.reset: Synchronization has been reset.", None),
        (f"synchro.synchronize: {NOTHING}", None),
    ]
    assert {each.user.username for each in logged} == {User.objects.get().username}


def test_links_need_the_permission_to_view(sqlite_pair: Pair) -> None:
    factories.article()
    assert "/admin/synchro/changelog/" not in text(staff("synchronize"))


def test_the_log_s_size_costs_no_queries(browser: Client, sqlite_pair: Pair) -> None:
    factories.article()
    with queries(sqlite_pair.local) as few:
        browser.get(url())
    for _ in range(30):
        factories.article()
    with queries(sqlite_pair.local) as many:
        browser.get(url())

    assert len(many) == len(few)


def test_remote_is_not_asked_to_show_the_page(browser: Client, sqlite_pair: Pair) -> None:
    with queries(sqlite_pair.remote) as asked:
        browser.get(url())

    assert asked == []


def test_in_another_language(browser: Client, tmp_path: Path) -> None:
    with translated(tmp_path):
        page = text(browser, headers={"accept-language": "de"})

    assert "Noch nie mit „sqlite_b“ synchronisiert." in page


@pytest.mark.parametrize("sidebar", [True, False])
def test_with_and_without_the_admin_s_sidebar(browser: Client, sidebar: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin.site, "enable_nav_sidebar", sidebar)

    assert ('id="nav-sidebar"' in text(browser)) == sidebar


def test_the_admin_links_to_it(sqlite_pair: Pair, admin_client: Client) -> None:
    page = admin_client.get(reverse("admin:synchro_changelog_changelist")).content.decode()

    assert f'<a href="{url()}">' in page


@pytest.mark.parametrize(
    "inclusion",
    [
        include("synchro.urls"),
        include(("synchro.urls", "synchro"), namespace="synchro"),
        include(("synchro.urls", "synchro"), "sync"),
    ],
    ids=["plain", "as in 0.x", "another namespace"],
)
def test_ways_to_include_it(inclusion: Any) -> None:
    urls: Any = ModuleType("urls")
    urls.urlpatterns = [path("there/", inclusion)]

    assert reverse("synchro:synchro", urlconf=urls) == "/there/"


# What goes wrong


def test_an_object_that_fails_is_named(browser: Client, sqlite_pair: Pair) -> None:
    article = factories.article()
    twin = ambiguous_twin(sqlite_pair)

    head, named = press(browser, "synchro")

    assert head == "1 object could not be synchronized (everything else was):"
    assert named.startswith(f"• shop.Twin {twin.pk}: More than one shop.Twin on REMOTE")
    assert_same_on_remote(article)


def test_only_some_of_many_failures_are_named(browser: Client, sqlite_pair: Pair) -> None:
    for _ in range(13):
        ambiguous_twin(sqlite_pair)

    messages = press(browser, "synchro")

    assert len(messages) == 12
    assert messages[-1] == "3 more are in the list of attempts."


def test_remote_is_down(browser: Client, sqlite_pair: Pair) -> None:
    factories.article()

    with unreachable(sqlite_pair.remote):
        (message,) = press(browser, "synchro")

    assert message.startswith("REMOTE cannot be used for now: ")
    assert message.endswith("Everything that has not arrived stays pending.")
    assert "secret" not in message
    assert ChangeLog.objects.pending().count() == 1


@override_settings(SYNCHRO_REMOTE=None)
def test_without_remote(browser: Client) -> None:
    assert "There is no REMOTE database" in text(browser)
    assert SYNCHRO_BUTTON not in text(browser)
    assert press(browser, "synchro")[0].startswith("SYNCHRO_REMOTE is not set")


@override_settings(SYNCHRO_REMOTE="<nowhere>")
def test_a_wrong_alias(browser: Client) -> None:
    sentence = escape("SYNCHRO_REMOTE is '<nowhere>', which is no alias in DATABASES.")

    assert shown(browser)[0].startswith(sentence)
    assert browser.post(url(), {"synchro": "1"}).status_code == 302
    assert all(message.startswith(sentence) for message in shown(browser))


def test_local_without_tables(unblocked: None) -> None:
    pair = Pair("sqlite_bare", "sqlite_b")
    for alias in (pair.local, pair.remote):
        prepare(alias)
    with pair.active():
        client = Client()
        client.force_login(User.objects.create_superuser("admin"))

        (message,) = shown(client)
        assert message.startswith("A database could not be used: no such table: synchro_option.")


def test_an_unforeseen_error_shows_no_values(
    browser: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**kwargs: Any) -> None:
        raise ValueError(f"the password is {12}{34}")

    monkeypatch.setattr(engine, "sync_pending", fail)

    assert press(browser, "synchro") == ["ValueError was raised."]
    assert "in fail" in caplog.text
    assert "1234" not in caplog.text


@override_settings(SYNCHRO_DEBUG=True)
def test_debugging_raises(browser: Client, sqlite_pair: Pair) -> None:
    factories.article()

    with unreachable(sqlite_pair.remote), pytest.raises(TransientError, match="REMOTE cannot be used for now"):
        browser.post(url(), {"synchro": "1"})


@override_settings(SYNCHRO_DEBUG=True)
def test_debugging_changes_nothing_else(browser: Client) -> None:
    factories.article()

    assert press(browser, "synchro") == [SUCCESS]


def test_the_view_is_its_own_way_in() -> None:
    """A project may put the view elsewhere than synchro.urls does."""
    view: Any = SynchroView.as_view()

    assert view._non_atomic_requests == set(connections)
