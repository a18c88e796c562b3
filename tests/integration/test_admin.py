"""The lists of the log, the attempts and the references: read only, and sturdy."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.db.models import Model
from django.http import HttpRequest
from django.test import Client, override_settings
from django.urls import reverse

from synchro import engine
from synchro.models import Attempt, ChangeLog, Reference
from tests import factories
from tests.databases import Pair
from tests.queries import queries
from tests.rows import attempt, entry, reference
from tests.shop.models import Article, Haunted, Product, Seat, Tag

MODELS = (ChangeLog, Attempt, Reference)
Action, State = ChangeLog.Action, ChangeLog.State


def list_url(model: type[Model], /, **parameters: Any) -> str:
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{reverse(f'admin:synchro_{model._meta.model_name}_changelist')}?{query}"


def detail_url(row: Model) -> str:
    return reverse(f"admin:synchro_{row._meta.model_name}_change", args=[row.pk])


def page(client: Client, url: str) -> str:
    """Return a page with its whitespace squeezed."""
    response = client.get(url)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def listed(client: Client, model: type[Model], /, **parameters: Any) -> set[Any]:
    """Return the primary keys of the rows that a list shows."""
    response = client.get(list_url(model, **parameters))
    assert response.status_code == 200
    return {row.pk for row in response.context["cl"].result_list}


MAKERS = (entry, attempt, reference)


# Reading


@pytest.mark.parametrize("make", MAKERS)
def test_lists_and_details(admin_client: Client, make: Any) -> None:
    row = make()

    for url in (list_url(type(row)), detail_url(row)):
        assert "shop.Article" in page(admin_client, url)


def test_the_whole_road(admin_client: Client, sqlite_pair: Pair) -> None:
    """What the engine leaves behind can be read."""
    factories.article()
    engine.sync_pending()

    assert "synced" in page(admin_client, detail_url(ChangeLog.objects.get()))
    assert "1001" in page(admin_client, detail_url(Reference.objects.get()))


def test_an_entry_s_details(admin_client: Client) -> None:
    row = entry(
        object_id="77", action=Action.DELETE, natural_key=["a@example.org", 5], state=State.FAILED, reason="No."
    )

    found = page(admin_client, detail_url(row))

    for part in ("77", "deleted", "failed", "No."):
        assert part in found
    assert "a@example.org" not in found, "a natural key is made of values"
    with override_settings(SYNCHRO_LOG_VALUES=True):
        assert "[&quot;a@example.org&quot;, 5]" in page(admin_client, detail_url(row))


@override_settings(TIME_ZONE="Europe/Warsaw")
def test_a_list_shows_seconds_in_the_site_s_time(admin_client: Client) -> None:
    entry(date=factories.moment())

    assert "2024-03-01 00:59:59" in page(admin_client, list_url(ChangeLog))


@pytest.mark.parametrize("make", MAKERS)
def test_without_time_zones(admin_client: Client, make: Any) -> None:
    row = make()

    with override_settings(USE_TZ=False):
        assert "shop.Article" in page(admin_client, list_url(type(row)))


def test_a_traceback_is_folded(admin_client: Client) -> None:
    row = attempt(task_id="5f0c")

    found = page(admin_client, detail_url(row))

    assert "<details><summary>Show</summary><pre>File engine.py, line 1</pre></details>" in found
    for part in ("IntegrityError", "It is taken.", "5f0c"):
        assert part in found


def test_an_attempt_without_traceback(admin_client: Client) -> None:
    assert "<details><summary>Show" not in page(admin_client, detail_url(attempt(traceback="")))


def test_a_reference_whose_other_side_is_not_known_yet(admin_client: Client) -> None:
    row = reference(local_object_id=None)

    assert listed(admin_client, Reference) == {row.pk}
    assert "1001" in page(admin_client, detail_url(row))


def test_the_newest_come_first(admin_client: Client) -> None:
    rows = [entry(object_id=str(number)) for number in range(3)]

    response = admin_client.get(list_url(ChangeLog))

    assert [each.pk for each in response.context["cl"].result_list] == [each.pk for each in reversed(rows)]


@override_settings(SYNCHRO_LOG_VALUES=True)
def test_markup_in_data_is_shown_as_text(admin_client: Client) -> None:
    markup = "<script>alert(1)</script>"
    rows = [
        entry(Tag, markup, reason=markup, natural_key=[markup]),
        attempt(Tag, markup, error=markup, message=markup, traceback=markup, task_id=markup),
        reference(Tag, local_object_id=markup, remote_object_id=markup),
    ]

    for row in rows:
        for url in (list_url(type(row)), detail_url(row)):
            assert markup not in page(admin_client, url)
    assert markup not in page(admin_client, f"{reverse('admin:synchro_changelog_object')}?model=shop.Tag&pk={markup}")


# Who may do what


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_can_be_changed(admin_client: Client, make: Any) -> None:
    row = make()
    model = type(row)
    name = f"admin:synchro_{model._meta.model_name}"

    assert admin_client.get(reverse(f"{name}_add")).status_code == 403
    assert admin_client.post(detail_url(row), {"object_id": "2"}).status_code == 403
    assert admin_client.post(reverse(f"{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    admin_client.post(list_url(model), {"action": "delete_selected", "_selected_action": row.pk, "post": "yes"})
    assert model._base_manager.filter(pk=row.pk).exists()


@pytest.mark.parametrize("make", MAKERS)
def test_viewing_needs_its_permission(client: Client, sqlite_pair: Pair, make: Any) -> None:
    row = make()
    user = factories.user(is_staff=True)
    client.force_login(user)
    assert client.get(list_url(type(row))).status_code == 403

    user.user_permissions.add(Permission.objects.get(codename=f"view_{type(row)._meta.model_name}"))
    assert client.get(list_url(type(row))).status_code == 200
    assert client.get(detail_url(row)).status_code == 200


def test_own_permissions_exist(sqlite_pair: Pair) -> None:
    own = Permission.objects.filter(content_type__app_label="synchro")

    assert {each.codename for each in own} == {
        "view_changelog",
        "view_attempt",
        "view_comparison",
        "view_reference",
        "synchronize",
        "reset",
        "retry",
        "discard",
    }


# Filters and search


def test_filter_by_state(admin_client: Client) -> None:
    rows = {
        "new": entry(),
        "retrying": entry(attempts=1, next_attempt_at=factories.moment()),
        "waiting": entry(next_attempt_at=factories.moment()),
        **{state.name.lower(): entry(state=state) for state in State if state != State.PENDING},
    }

    for name, row in rows.items():
        if name != "new":
            assert listed(admin_client, ChangeLog, **{"is": name}) == {row.pk}
    assert listed(admin_client, ChangeLog, **{"is": "pending"}) == {
        rows[name].pk for name in ("new", "retrying", "waiting")
    }
    assert listed(admin_client, ChangeLog, **{"is": "nonsense"}) == {row.pk for row in rows.values()}


def test_what_lost_is_told_where_it_was_made(admin_client: Client, sqlite_pair: Pair) -> None:
    article = factories.article(title="0")
    engine.sync_pending()
    article.title = "ours"
    article.save()
    with sqlite_pair.reversed.active():
        theirs = Article.objects.get()
        theirs.title = "theirs"
        theirs.save()
    engine.sync_pending()

    skipped = page(admin_client, list_url(ChangeLog, **{"is": "skipped"}))

    assert skipped.count("REMOTE changed the object later") == 1
    assert "Lost here: title." in page(admin_client, detail_url(ChangeLog.objects.skipped().get()))


@pytest.mark.parametrize("make", MAKERS)
def test_filter_by_model(admin_client: Client, make: Any) -> None:
    row = make(Product)
    make(Article)

    assert listed(admin_client, type(row), model="shop.Product") == {row.pk}


@override_settings(SYNCHRO_MODELS=[("shop", "product", "article")])
def test_only_watched_models_are_offered(admin_client: Client) -> None:
    entry(Tag)

    found = page(admin_client, list_url(ChangeLog))

    assert re.findall(r'href="\?model=([\w.]+)"', found) == ["shop.Article", "shop.Product"]


@pytest.mark.parametrize("model", ["auth.User", "nonsense", "shop.Nothing"])
def test_a_model_that_is_not_offered_filters_nothing(admin_client: Client, model: str) -> None:
    row = entry()

    assert listed(admin_client, ChangeLog, model=model) == {row.pk}


@override_settings(SYNCHRO_MODELS=["nonsense"])
def test_wrong_settings_do_not_hide_the_log(admin_client: Client) -> None:
    row = entry()

    assert listed(admin_client, ChangeLog) == {row.pk}


@pytest.mark.parametrize("make", [entry, attempt])
@pytest.mark.parametrize("object_id", ["12", "a b", '["A", "1"]', "it's", "Ä/%_"])
def test_search_by_object_id(admin_client: Client, make: Any, object_id: str) -> None:
    row = make(Tag, object_id)
    make(Tag, "1")
    make(Tag, f"{object_id}2")

    response = admin_client.get(list_url(type(row)), {"q": object_id})

    assert {each.pk for each in response.context["cl"].result_list} == {row.pk}


def test_search_for_a_reference_by_either_id(admin_client: Client) -> None:
    here = reference(local_object_id="5", remote_object_id="6")
    there = reference(local_object_id="4", remote_object_id="5")

    assert listed(admin_client, Reference, q="5") == {here.pk, there.pk}
    assert listed(admin_client, Reference, q="4") == {there.pk}


# Sturdy and cheap


def test_a_list_asks_no_query_for_each_row(admin_client: Client, sqlite_pair: Pair) -> None:
    for model in (Article, Product, Haunted, User):
        for make in MAKERS:
            make(model)
    with_few = [count(admin_client, sqlite_pair, list_url(model)) for model in MODELS]
    for number in range(20):
        for model in (Article, Product, Haunted, User):
            entry(model, str(number))
            attempt(model, str(number))
            reference(model, local_object_id=str(number))

    assert [count(admin_client, sqlite_pair, list_url(model)) for model in MODELS] == with_few


def count(client: Client, pair: Pair, url: str) -> int:
    with queries(pair.local) as asked:
        assert client.get(url).status_code == 200
    return len(asked)


def test_remote_is_not_asked(admin_client: Client, sqlite_pair: Pair) -> None:
    rows = [make() for make in MAKERS]

    with queries(sqlite_pair.remote) as asked:
        for row in rows:
            page(admin_client, list_url(type(row)))
            page(admin_client, detail_url(row))

    assert asked == []


@override_settings(DATABASE_ROUTERS=[])
@pytest.mark.parametrize("model", MODELS)
def test_lists_are_those_of_local(sqlite_pair: Pair, model: type[Model]) -> None:
    assert admin.site.get_model_admin(model).get_queryset(HttpRequest()).db == sqlite_pair.local


def test_an_object_that_nobody_can_print(admin_client: Client) -> None:
    haunted = factories.make(Haunted, name="attic")
    rows = [make(Haunted) for make in (attempt, reference)]

    for row in (ChangeLog.objects.get(object_id=str(haunted.pk)), *rows):
        assert "shop.Haunted" in page(admin_client, list_url(type(row)))
        assert "shop.Haunted" in page(admin_client, detail_url(row))


def test_a_model_that_is_no_longer_installed(admin_client: Client, stale_type: ContentType) -> None:
    rows = [make(content_type=stale_type) for make in MAKERS]

    for row in rows:
        assert "shop.bygone" in page(admin_client, list_url(type(row)))
        assert "shop.bygone" in page(admin_client, detail_url(row))


# Links to objects


def user_link(pk: Any) -> str:
    return f'<a href="/admin/auth/user/{pk}/change/">{pk}</a>'


def test_an_object_with_a_page_is_linked(admin_client: Client) -> None:
    user = factories.user()
    rows = [
        entry(User, str(user.pk)),
        attempt(User, str(user.pk)),
        reference(User, local_object_id=str(user.pk)),
    ]

    for row in rows:
        assert user_link(user.pk) in page(admin_client, list_url(type(row)))
        assert user_link(user.pk) in page(admin_client, detail_url(row))


def test_a_deleted_object_is_not_linked(admin_client: Client) -> None:
    row = entry(User, "77", action=Action.DELETE)

    assert user_link(77) not in page(admin_client, list_url(ChangeLog))
    assert user_link(77) not in page(admin_client, detail_url(row))


def test_a_link_to_an_object_that_is_gone_leads_back(admin_client: Client) -> None:
    entry(User, "77")

    assert user_link(77) in page(admin_client, list_url(ChangeLog))
    assert admin_client.get("/admin/auth/user/77/change/").status_code == 302


@pytest.mark.parametrize(("model", "object_id"), [(Article, "1"), (Seat, '["A", "1"]'), (Tag, ""), (User, "")])
def test_an_object_without_a_page_is_not_linked(admin_client: Client, model: type[Model], object_id: str) -> None:
    entry(model, object_id)

    assert "/change/" not in page(admin_client, list_url(ChangeLog)).partition('id="result_list"')[2].replace(
        detail_url(ChangeLog.objects.get()), ""
    )


# Long logs


def test_a_list_ends_somewhere_and_says_so(admin_client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synchro.admin._LISTED", 2)
    monkeypatch.setattr(admin.site.get_model_admin(ChangeLog), "list_per_page", 1)
    rows = [entry(object_id=str(number)) for number in range(3)]

    found = page(admin_client, list_url(ChangeLog))

    assert "Only the newest 2 rows are listed here." in found
    assert listed(admin_client, ChangeLog, p=2) == {rows[1].pk}
    assert admin_client.get(list_url(ChangeLog, p=3)).status_code == 302
    assert "Only the newest" not in page(admin_client, list_url(ChangeLog, q="1"))


def test_lists_read_no_more_of_a_long_log(postgres_pair: Pair, client: Client) -> None:
    """PostgreSQL tells how many blocks it touches; each table of 100,000 rows has more than 1,000.

    A search looks into the index once for each of some 60 content types, of references twice.
    """
    client.force_login(User.objects.create_superuser("admin"))
    fill(postgres_pair)
    urls = [
        *(list_url(model) for model in MODELS),
        *(list_url(model, q="77") for model in MODELS),
        *(list_url(ChangeLog, **{"is": name}) for name in ("pending", "retrying", "failed", "synced")),
        list_url(ChangeLog, model="shop.Tag", **{"is": "failed"}),
        detail_url(ChangeLog.objects.latest("pk")),
    ]
    with queries(postgres_pair.local) as found:
        for url in urls:
            page(client, url)
    asked = [each for each in found if each.startswith("SELECT") and "synchro_" in each]

    assert len(asked) > 20
    assert {sql: count for sql in asked if (count := blocks_of(postgres_pair, sql)) > 700} == {}


def fill(pair: Pair) -> None:
    """Fill the three tables with rows of articles, the log with synced entries."""
    content_type = ContentType.objects.get_for_model(Article).pk
    tables = {
        "changelog": ("action, state, attempts, reason, date", "2, 2, 0, '', now()"),
        "attempt": ("error, message, traceback, task_id, date", "'', '', '', '', now()"),
        "reference": ("peer, remote_object_id", f"'{uuid.UUID(int=5)}', number"),
    }
    with connections[pair.local].cursor() as cursor:
        for table, (names, values) in tables.items():
            object_id = "local_object_id" if table == "reference" else "object_id"
            cursor.execute(
                f"INSERT INTO synchro_{table} (content_type_id, {object_id}, {names}) "
                f"SELECT {content_type}, number::text, {values} FROM generate_series(1, 100000) number"
            )
            cursor.execute(f"VACUUM ANALYZE synchro_{table}")


def blocks_of(pair: Pair, sql: str) -> int:
    with connections[pair.local].cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql.replace('%', '%%')}")
        plan = cursor.fetchone()[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
