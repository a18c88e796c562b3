"""Settings: defaults, and a sentence for every value that cannot be used."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from synchro.conf import conf
from synchro.exceptions import NoRemote, SettingError

OPTIONAL = {
    "SYNCHRO_LOCAL": ("local", "default"),
    "SYNCHRO_MODELS": ("models", ()),
    "SYNCHRO_ALLOW_RESET": ("allow_reset", True),
    "SYNCHRO_DEBUG": ("debug", False),
    "SYNCHRO_BATCH_SIZE": ("batch_size", 1000),
    "SYNCHRO_MAX_ATTEMPTS": ("max_attempts", 10),
    "SYNCHRO_REMOTE_CASCADE": ("remote_cascade", False),
    "SYNCHRO_LOG_RETENTION": ("log_retention", timedelta(days=30)),
    "SYNCHRO_LOG_VALUES": ("log_values", False),
    "SYNCHRO_TASK_QUEUE": ("task_queue", None),
    "SYNCHRO_TASK_EXPIRES": ("task_expires", None),
}

NOT_A_NUMBER = (0, -1, 1.5, "5", True, None, [5])
NOT_A_BOOLEAN = (0, 1, "no", None)
RUBBISH = [
    *[("SYNCHRO_LOCAL", value) for value in ("nowhere", "", 5, None, ["sqlite_a"])],
    *[("SYNCHRO_REMOTE", value) for value in ("nowhere", "", 5, False, ["sqlite_b"])],
    *[("SYNCHRO_MODELS", value) for value in ("shop", 5, None, {"shop"}, {"shop": "article"})],
    *[("SYNCHRO_ALLOW_RESET", value) for value in NOT_A_BOOLEAN],
    *[("SYNCHRO_DEBUG", value) for value in NOT_A_BOOLEAN],
    *[("SYNCHRO_REMOTE_CASCADE", value) for value in NOT_A_BOOLEAN],
    *[("SYNCHRO_LOG_VALUES", value) for value in NOT_A_BOOLEAN],
    *[("SYNCHRO_BATCH_SIZE", value) for value in NOT_A_NUMBER],
    *[("SYNCHRO_MAX_ATTEMPTS", value) for value in NOT_A_NUMBER],
    *[("SYNCHRO_LOG_RETENTION", value) for value in (*NOT_A_NUMBER, 10**12)],
    *[("SYNCHRO_TASK_QUEUE", value) for value in ("", 5, True, ["synchro"])],
    *[("SYNCHRO_TASK_EXPIRES", value) for value in NOT_A_NUMBER if value is not None],
]


def property_of(setting: str) -> str:
    return setting.removeprefix("SYNCHRO_").lower()


@pytest.mark.parametrize("setting", OPTIONAL)
def test_default(setting: str) -> None:
    name, default = OPTIONAL[setting]
    with override_settings():
        if hasattr(settings, setting):
            delattr(settings, setting)

        assert getattr(conf, name) == default


@pytest.mark.parametrize(
    ("setting", "value", "expected"),
    [
        ("SYNCHRO_LOCAL", "sqlite_b", "sqlite_b"),
        ("SYNCHRO_REMOTE", "sqlite_b", "sqlite_b"),
        ("SYNCHRO_REMOTE", None, None),
        ("SYNCHRO_MODELS", ["shop"], ["shop"]),
        ("SYNCHRO_ALLOW_RESET", False, False),
        ("SYNCHRO_DEBUG", True, True),
        ("SYNCHRO_BATCH_SIZE", 1, 1),
        ("SYNCHRO_MAX_ATTEMPTS", 3, 3),
        ("SYNCHRO_LOG_RETENTION", 7, timedelta(days=7)),
        ("SYNCHRO_TASK_QUEUE", "synchro", "synchro"),
        ("SYNCHRO_TASK_EXPIRES", 60, 60),
    ],
)
def test_a_setting_is_read_when_it_is_used(setting: str, value: Any, expected: Any) -> None:
    with override_settings(**{setting: value}):
        assert getattr(conf, property_of(setting)) == expected


@pytest.mark.parametrize(("setting", "value"), RUBBISH)
def test_rubbish_names_the_setting_and_the_value(setting: str, value: Any) -> None:
    with override_settings(**{setting: value}), pytest.raises(SettingError) as caught:
        getattr(conf, property_of(setting))

    message = str(caught.value)
    assert message.startswith(f"{setting} is {value!r}")
    assert message.endswith(".")
    assert isinstance(caught.value, ImproperlyConfigured)


@pytest.mark.parametrize("setting", ["SYNCHRO_LOCAL", "SYNCHRO_REMOTE"])
def test_an_unknown_alias_is_answered_with_those_that_exist(setting: str) -> None:
    with override_settings(**{setting: "nowhere"}), pytest.raises(SettingError, match=r"Use one of: .*'sqlite_a'"):
        getattr(conf, property_of(setting))


def test_remote_must_not_be_local() -> None:
    with (
        override_settings(SYNCHRO_LOCAL="sqlite_a", SYNCHRO_REMOTE="sqlite_a"),
        pytest.raises(SettingError, match="SYNCHRO_REMOTE is 'sqlite_a', which is LOCAL itself"),
    ):
        _ = conf.remote


def test_a_missing_remote_warns_and_means_none() -> None:
    with override_settings():
        del settings.SYNCHRO_REMOTE

        with pytest.warns(RuntimeWarning, match="SYNCHRO_REMOTE is not set"):
            assert conf.remote is None


def test_none_as_remote_does_not_warn() -> None:
    with override_settings(SYNCHRO_REMOTE=None):
        assert conf.remote is None
        with pytest.raises(NoRemote, match="SYNCHRO_REMOTE is not set"):
            conf.require_remote()
