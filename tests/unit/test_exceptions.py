"""The error tree."""

from __future__ import annotations

import inspect

import pytest
from django.core.exceptions import ImproperlyConfigured

from synchro import exceptions
from synchro.exceptions import PermanentError, SettingError, SynchroError, TransientError

ERRORS = [
    each
    for _, each in inspect.getmembers(exceptions, inspect.isclass)
    if each.__module__ == exceptions.__name__ and issubclass(each, Exception)
]


@pytest.mark.parametrize("error", ERRORS)
def test_the_docstring_is_the_default_message(error: type[SynchroError]) -> None:
    assert issubclass(error, SynchroError)
    assert str(error()) == inspect.getdoc(error)
    assert str(error()).endswith(".")
    assert str(error("No such thing.")) == "No such thing."


def test_transient_and_permanent_are_two_branches() -> None:
    both = [error for error in ERRORS if issubclass(error, TransientError) and issubclass(error, PermanentError)]

    assert both == []


def test_setting_errors_are_django_s_own_kind() -> None:
    assert issubclass(SettingError, ImproperlyConfigured)
