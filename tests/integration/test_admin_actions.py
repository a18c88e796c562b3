"""What operators see of an object and do about it in the admin."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.test import Client, override_settings
from django.urls import resolve, reverse

from synchro import engine
from synchro.models import ChangeLog, Hold, Reference
from tests import factories
from tests.assertions import counterpart
from tests.databases import Pair
from tests.faults import unreachable
from tests.queries import queries
from tests.rows import attempt, entry, reference
from tests.shop.models import Article, Product, Seat, Tag

State = ChangeLog.State


def list_url(**parameters: Any) -> str:
    return f"{reverse('admin:synchro_changelog_changelist')}?{urlencode(parameters)}"


def object_url(label: str = "shop.Article", pk: str = "1") -> str:
    return f"{reverse('admin:synchro_changelog_object')}?{urlencode({'model': label, 'pk': pk})}"


def page(client: Client, url: str) -> str:
    """Return a page with its whitespace squeezed."""
    response = client.get(url)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def staff(*permissions: str) -> Client:
    """Return the browser of a member of the staff."""
    user = factories.user(is_staff=True)
    user.user_permissions.set(Permission.objects.filter(content_type__app_label="synchro", codename__in=permissions))
    client = Client()
    client.force_login(user)
    return client


def choose(client: Client, action: str, *rows: ChangeLog, url: str = "", **data: Any) -> Any:
    """Choose an action for some rows of the list, and return the page that follows."""
    chosen = {"action": action, "_selected_action": [row.pk for row in rows], **data}
    return client.post(url or list_url(), chosen, follow=True)


def told(response: Any) -> list[str]:
    """Return the messages on a page."""
    found = re.findall(r'<li class="(?:success|error|warning)">(.*?)</li>', response.content.decode(), re.DOTALL)
    return [each.strip() for each in found]


def states() -> dict[str, State]:
    return {each.object_id: State(each.state) for each in ChangeLog.objects.order_by("pk")}


def logged() -> list[tuple[str | None, str]]:
    """Return the admin log: the id of the entry and what was done to it."""
    return [(each.object_id, each.change_message) for each in LogEntry.objects.order_by("pk")]


# What happened to an object


def test_an_object_s_history(admin_client: Client, sqlite_pair: Pair) -> None:
    article = factories.article(pk=1)
    engine.sync_pending()
    Article.objects.using(sqlite_pair.remote).update(title="other", words=0)
    entry(object_id="1", state=State.FAILED, attempts=3, reason="No room.")
    attempt(object_id="1", task_id="5f0c")

    found = page(admin_client, object_url())

    for part in (
        "Given up, until the object changes or an operator retries it: No room.",
        "REMOTE&#x27;s copy is different.",
        f"<td>{counterpart(article).pk}</td>",
        '<th scope="row">title</th><td>…</td><td>…</td>',
        '<th scope="row">words</th>',
        "Values are shown where SYNCHRO_LOG_VALUES is True.",
        "<td>synced</td>",
        "<td>failed</td>",
        "<td>IntegrityError</td>",
        "<details><summary>Show</summary><pre>File engine.py, line 1</pre></details>",
        "<td>5f0c</td>",
    ):
        assert part in found
    assert "other" not in found


@override_settings(SYNCHRO_LOG_VALUES=True)
def test_an_object_s_history_with_values(admin_client: Client, sqlite_pair: Pair) -> None:
    factories.article(pk=1, title="<b>here</b>")
    engine.sync_pending()
    Article.objects.using(sqlite_pair.remote).update(title="there")

    found = page(admin_client, object_url())

    assert "<td>&#x27;&lt;b&gt;here&lt;/b&gt;&#x27;</td><td>&#x27;there&#x27;</td>" in found
    assert "SYNCHRO_LOG_VALUES" not in found


def test_an_object_without_a_history(admin_client: Client) -> None:
    found = page(admin_client, object_url(pk="99"))

    assert "Nothing is logged of this object." in found
    assert 'name="retry"' not in found


def test_remote_is_away(admin_client: Client, sqlite_pair: Pair) -> None:
    factories.article(pk=1)
    reference()
    with unreachable(sqlite_pair.remote):
        found = page(admin_client, object_url())

    assert "<td>unable to open database file</td>" in found
    assert re.search(r"<td>1001 at [0-9a-f-]{36}</td>", found)
    Hold.objects.hold("", "No answer.")
    assert "REMOTE is not asked now: No answer." in page(admin_client, object_url())


@pytest.mark.parametrize("pk", ["a/b", 'it\'s "x"', "?&=#", "Ä %20", "../", "1 "])
def test_an_object_with_a_strange_key(admin_client: Client, pk: str) -> None:
    entry(Tag, pk)

    found = page(admin_client, list_url())
    (link,) = re.findall(r'<a href="([^"]*object/\?[^"]*)">Show</a>', found)

    assert "<td>added</td>" in page(admin_client, link.replace("&amp;", "&"))


def test_an_object_with_two_keys(admin_client: Client, sqlite_pair: Pair) -> None:
    seat = factories.seat(row="A", number=1)

    assert isinstance(seat, Seat)
    assert "<td>added</td>" in page(admin_client, object_url("shop.Seat", '["A", "1"]'))


@pytest.mark.parametrize("query", ["", "model=nonsense&pk=1", "model=shop.Nothing&pk=1", "pk=1"])
def test_no_such_model(admin_client: Client, query: str) -> None:
    assert admin_client.get(f"{reverse('admin:synchro_changelog_object')}?{query}").status_code == 404


def test_an_entry_shows_the_attempts_at_its_object(admin_client: Client) -> None:
    row = entry(object_id="7")
    attempt(object_id="7", message="First\nand second.", task_id="5f0c")
    attempt(object_id="8", message="Another object.")

    found = page(admin_client, reverse("admin:synchro_changelog_change", args=[row.pk]))

    assert "First<br>and second." in found
    assert "<td>5f0c</td>" in found
    assert "Another object." not in found
    assert f'href="{object_url(pk="7").replace("&", "&amp;")}"' in found


def test_an_entry_of_a_model_that_is_no_longer_installed(admin_client: Client, stale_type: ContentType) -> None:
    row = entry(content_type=stale_type)
    attempt(content_type=stale_type)

    found = page(admin_client, reverse("admin:synchro_changelog_change", args=[row.pk]))

    assert "It is taken." in found
    assert "object/?" not in found


def test_an_entry_that_does_not_exist(admin_client: Client) -> None:
    for pk in ("99", "nonsense"):
        assert admin_client.get(f"/admin/synchro/changelog/{pk}/change/").status_code == 302


def test_every_list_leads_to_the_history(admin_client: Client) -> None:
    entry()
    attempt()
    reference()

    for name in ("changelog", "attempt", "reference"):
        found = page(admin_client, reverse(f"admin:synchro_{name}_changelist"))
        assert f'<a href="{object_url().replace("&", "&amp;")}">Show</a>' in found


def test_a_reference_whose_object_is_not_known_leads_nowhere(admin_client: Client) -> None:
    row = reference(local_object_id=None)

    assert Reference.objects.get() == row
    assert "object/?" not in page(admin_client, reverse("admin:synchro_reference_changelist"))


def test_no_transaction_is_open_while_remote_is_asked(sqlite_pair: Pair) -> None:
    view: Any = resolve(reverse("admin:synchro_changelog_object")).func

    assert view._non_atomic_requests >= {sqlite_pair.local, sqlite_pair.remote}


# Actions


def test_retry_the_selected(admin_client: Client) -> None:
    failed, synced = entry(object_id="1", state=State.FAILED), entry(object_id="2", state=State.SYNCED)
    entry(object_id="3", state=State.FAILED)

    response = choose(admin_client, "retry", failed, synced)

    assert told(response) == ["1 change is tried again now."]
    assert states() == {"1": State.PENDING, "2": State.SYNCED, "3": State.FAILED}
    assert logged() == [(str(failed.pk), "1 change is tried again now.")]
    assert LogEntry.objects.get().user.username == "admin"
    history = page(admin_client, reverse("admin:synchro_changelog_history", args=[failed.pk]))
    assert "1 change is tried again now." in history


def test_retry_all_of_this_kind(admin_client: Client) -> None:
    chosen = entry(object_id="1", state=State.FAILED, reason="No.")
    entry(object_id="2", state=State.FAILED, reason="No.")
    entry(Product, "3", state=State.FAILED, reason="No.")

    response = choose(admin_client, "retry_kinds", chosen)

    assert told(response) == ["2 changes are tried again now."]
    assert states() == {"1": State.PENDING, "2": State.PENDING, "3": State.FAILED}
    assert logged() == [(str(chosen.pk), "2 changes are tried again now.")]


def test_discard_asks_first(admin_client: Client) -> None:
    rows = [entry(object_id=str(number), state=State.FAILED) for number in range(2)]
    settled = entry(object_id="2", state=State.SYNCED)

    response = choose(admin_client, "discard", *rows, settled)

    found = " ".join(response.content.decode().split())
    assert "2 changes that have not arrived are given up." in found
    assert set(states().values()) == {State.FAILED, State.SYNCED}
    again = {name: re.findall(f'name="{name}" value="([^"]*)"', found) for name in ("action", "_selected_action")}
    assert again == {"action": ["discard"], "_selected_action": [str(row.pk) for row in (*rows, settled)]}

    response = choose(admin_client, "discard", *rows, settled, sure="Yes")

    assert told(response) == ["2 changes were discarded."]
    assert states() == {"0": State.DISCARDED, "1": State.DISCARDED, "2": State.SYNCED}
    assert sorted(logged()) == sorted((str(row.pk), "2 changes were discarded.") for row in rows)


def test_discard_across_pages_keeps_the_filter(admin_client: Client) -> None:
    rows = [entry(object_id=str(number), state=State.FAILED) for number in range(3)]
    entry(object_id="pending")
    url = list_url(**{"is": "failed"})

    response = choose(admin_client, "discard", rows[0], url=url, select_across="1")
    assert 'name="select_across" value="1"' in response.content.decode()
    choose(admin_client, "discard", rows[0], url=url, select_across="1", sure="Yes")

    assert states() == {"0": State.DISCARDED, "1": State.DISCARDED, "2": State.DISCARDED, "pending": State.PENDING}


def test_what_is_done_to_a_crowd_is_logged_once(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synchro.audit.MOST", 2)
    rows = [entry(object_id=str(number), state=State.FAILED) for number in range(3)]

    choose(admin_client, "retry", *rows)

    assert logged() == [(None, "3 changes are tried again now.")]
    assert page(admin_client, reverse("admin:index"))


@pytest.mark.parametrize("action", ["retry", "retry_kinds"])
def test_there_is_nothing_to_do(admin_client: Client, action: str) -> None:
    synced = entry(state=State.SYNCED)

    assert told(choose(admin_client, action, synced)) == ["None of these changes is pending or failed."]
    assert logged() == []


@pytest.mark.parametrize(("button", "state"), [("retry", State.PENDING), ("discard", State.DISCARDED)])
def test_buttons_of_an_object(admin_client: Client, button: str, state: State) -> None:
    entry(object_id="1", state=State.FAILED)
    row = entry(object_id="1", state=State.FAILED)
    entry(object_id="2", state=State.FAILED)
    assert f'name="{button}"' in page(admin_client, object_url())

    response = admin_client.post(object_url(), {button: "1"}, follow=True)

    assert response.redirect_chain == [(object_url(), 302)]
    assert len(told(response)) == 1
    assert states() == {"1": state, "2": State.FAILED}
    assert len(logged()) == 2
    assert str(row.pk) in {pk for pk, _ in logged()}


def test_a_post_without_a_button_does_nothing(admin_client: Client) -> None:
    assert admin_client.post(object_url()).status_code == 400


# Who may do what


def test_viewing_offers_nothing_to_do(sqlite_pair: Pair) -> None:
    row = entry(state=State.FAILED)
    client = staff("view_changelog")

    assert 'name="action"' not in page(client, list_url())
    found = page(client, object_url())
    assert 'name="retry"' not in found
    assert 'name="discard"' not in found
    for action in ("retry", "retry_kinds", "discard"):
        choose(client, action, row, sure="Yes")
        assert client.post(object_url(), {action: "1"}).status_code in (400, 403)
    assert states() == {"1": State.FAILED}
    assert logged() == []


@pytest.mark.parametrize(
    ("permission", "offered"), [("retry", {"retry", "retry_kinds"}), ("discard", {"discard"}), ("synchronize", set())]
)
def test_each_action_asks_for_its_own_permission(sqlite_pair: Pair, permission: str, offered: set[str]) -> None:
    entry(state=State.FAILED)
    client = staff("view_changelog", permission)

    options = set(re.findall(r'<option value="(\w+)"', page(client, list_url())))
    buttons = set(re.findall(r'<input type="submit" name="(\w+)"', page(client, object_url())))

    assert options == offered
    assert buttons == offered - {"retry_kinds"}
    for button in {"retry", "discard"} - offered:
        assert client.post(object_url(), {button: "1"}).status_code == 403


def test_acting_without_viewing_is_refused(sqlite_pair: Pair) -> None:
    row = entry(state=State.FAILED)
    client = staff("retry", "discard", "view_attempt", "view_reference")

    assert client.get(object_url()).status_code == 403
    assert client.post(object_url(), {"retry": "1"}).status_code == 403
    assert choose(client, "retry", row).status_code == 403
    assert states() == {"1": State.FAILED}


def test_strangers_are_sent_to_the_login(sqlite_pair: Pair, client: Client) -> None:
    assert client.get(object_url()).status_code == 302
    assert client.post(object_url(), {"retry": "1"}).status_code == 302


def test_forms_carry_a_token(sqlite_pair: Pair, admin_user: User) -> None:
    entry(state=State.FAILED)
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)

    assert client.post(object_url(), {"retry": "1"}).status_code == 403
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page(client, object_url()))
    assert token is not None
    assert client.post(object_url(), {"retry": "1", "csrfmiddlewaretoken": token[1]}).status_code == 302


def test_actions_do_not_ask_remote(admin_client: Client, sqlite_pair: Pair) -> None:
    row = entry(state=State.FAILED)

    with queries(sqlite_pair.remote) as asked:
        choose(admin_client, "retry", row)
        choose(admin_client, "discard", row, sure="Yes")

    assert asked == []
