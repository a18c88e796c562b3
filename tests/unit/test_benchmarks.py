"""The benchmarks measure what they say."""

from __future__ import annotations

from benchmarks.kinds import KINDS
from synchro.registry import watched_models


def test_every_watched_model_is_of_a_kind() -> None:
    """A new model of the test project gets its row in the table of statements."""
    of_a_kind = {model._meta.concrete_model for kind in KINDS for model in kind.models}

    assert {model._meta.label for model in watched_models()} == {model._meta.label for model in of_a_kind}
