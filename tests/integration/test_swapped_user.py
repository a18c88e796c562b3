"""A project with a user model of its own (AUTH_USER_MODEL), which is watched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 300


def test_a_swapped_user_model() -> None:
    """Django swaps the user model only at its start: tests/members/cases.py runs in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "SYNCHRO_TEST_RUN"}
    options = ("-q", "-p", "no:cacheprovider", "--ds=tests.members.settings")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/members/cases.py"],
        cwd=ROOT,
        env=environment | {"DJANGO_SETTINGS_MODULE": "tests.members.settings"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_SECONDS,
    )

    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
