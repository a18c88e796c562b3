"""The migrations say what the models say."""

import pytest
from django.apps import apps
from django.db.migrations.autodetector import MigrationAutodetector
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState

APPS = ("synchro", "synchro_tasks")


@pytest.mark.parametrize("app", APPS)
def test_no_migration_is_missing(app: str) -> None:
    """What `makemigrations --check` tells, without a database."""
    loader = MigrationLoader(None)
    detector = MigrationAutodetector(loader.project_state(), ProjectState.from_apps(apps))
    missing = detector.changes(graph=loader.graph, trim_to_apps={app}, convert_apps={app})
    assert [operation.describe() for migration in missing.get(app, []) for operation in migration.operations] == []


@pytest.mark.parametrize("app", APPS)
def test_migrations_are_named_by_intention(app: str) -> None:
    names = [name for label, name in MigrationLoader(None).disk_migrations if label == app]
    assert [name for name in names if "_auto_" in name] == []


@pytest.mark.parametrize("app", APPS)
def test_indexes_and_constraints_are_named_by_intention(app: str) -> None:
    """An operator who looks at a query plan reads a purpose, not a hash of field names."""
    options = [model._meta for model in apps.get_app_config(app).get_models()]
    names = [item.name for meta in options for item in (*meta.indexes, *meta.constraints)]
    assert [name for name in names if not name.startswith(f"{app}_")] == []
