"""The virtual environment `.venv`."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tomllib
from pathlib import Path

from devtools.processes import Failure, Processes, say

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"

EXTRAS = "celery,flower,postgres,progress"
GROUPS = ("servers", "demo")  # what everything needs


def make_environment(processes: Processes, *more: str) -> None:
    """Make `.venv` with our groups of packages and more, unless that was done for this Python and these versions."""
    names = {*GROUPS, *more}
    sources = [ROOT / "pyproject.toml", ROOT / "constraints.txt", *sorted(ROOT.glob("synchro*/locale/**/*.po"))]
    wanted = [digest(sys.version, str(ROOT)), digest(EXTRAS, *(source.read_text() for source in sources))]
    stamp = VENV / "installed"
    present = stamp.read_text().splitlines() if PYTHON.exists() and stamp.exists() else []
    if present[:2] == wanted:
        if names <= set(present[2:]):
            return
        names |= set(present[2:])
    if importlib.util.find_spec("pip") is None:
        raise Failure(
            f"{sys.executable} has no pip. Install it (Debian: apt install python3-pip) or use another Python."
        )
    say("Installing everything into .venv (takes about half a minute)")
    groups = tomllib.loads(sources[0].read_text())["dependency-groups"]
    requirements = [requirement for name in sorted(names) for requirement in groups[name]]
    constraints = ROOT / "constraints.txt"
    # Debian's Python may have no ensurepip and refuses to install outside of an environment; this needs neither.
    if present[:1] != wanted[:1]:
        processes.check(processes.start("venv", sys.executable, "-m", "venv", "--clear", "--without-pip", VENV))
    pip = (sys.executable, "-m", "pip", "--python", PYTHON, "install", "--quiet", "--disable-pip-version-check")
    install = processes.start("pip", *pip, "-c", constraints, "-e", f".[{EXTRAS}]", *requirements, cwd=ROOT)
    try:
        processes.check(install)
    except Failure as error:
        raise Failure(f"{error}\nCan pip reach a package index? When it can, run the same command again.") from None
    stamp.write_text("\n".join([*wanted, *sorted(names)]))


def digest(*texts: str) -> str:
    """Return a short name for some texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def installed(pattern: str) -> Path:
    """Return the path of a file in `.venv`, of the newest when several match."""
    paths = sorted(VENV.glob(f"lib/python*/site-packages/{pattern}"))
    if not paths:
        raise Failure(f"{pattern} is not in {VENV}. Remove that folder and start again.")
    return paths[-1]


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of a process that works with `.venv`."""
    return os.environ | {"PATH": f"{PYTHON.parent}{os.pathsep}{os.environ.get('PATH', '')}"} | variables
