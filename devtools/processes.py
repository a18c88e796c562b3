"""Child processes that are started for a while and surely stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

START_PATIENCE = 60  # seconds for a server to answer
STOP_PATIENCE = 10  # seconds for a process to end by itself
STARTED = time.monotonic()


class Failure(Exception):
    """Something failed that can be expected to fail; the text says what, and what to do."""


class Stopped(Exception):
    """Ctrl-C was pressed, or a signal asks to end."""


def say(text: str) -> None:
    """Tell what happens, and when."""
    sys.stdout.write(f"[{time.monotonic() - STARTED:5.1f} s] {text}\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class Child:
    """A process that we started."""

    name: str
    process: subprocess.Popen[str]
    stop: signal.Signals  # what it takes as a polite request to end
    lasting: bool  # a server: it must not end by itself


class Processes:
    """All processes of this run and the folder with their data and logs. Nothing of it is left at the end."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="synchro-"))
        self.folder.chmod(0o711)  # the user that PostgreSQL runs as must get to its data
        self.children: list[Child] = []
        self.interrupted = False

    def __enter__(self) -> Processes:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *error: object) -> None:
        if self.children:
            say("Stopping")
        self.close()

    def close(self) -> None:
        """End what is still running, and remove the folder."""
        for child in reversed(self.children):
            end(child)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        """Only take a note: an exception could hit between the start of a process and the note that it runs."""
        self.interrupted = True

    def start(
        self,
        name: str,
        *command: str | Path,
        stop: signal.Signals = signal.SIGTERM,
        lasting: bool = False,
        **options: Any,
    ) -> Child:
        """Start a process whose output goes to NAME.log, in a session of its own: Ctrl-C reaches only us.

        Raises:
            Failure: there is no such program, or we may not run it.
        """
        with (self.folder / f"{name}.log").open("wb") as log:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": subprocess.STDOUT}
            try:
                process = subprocess.Popen(command, text=True, start_new_session=True, **(streams | options))
            except OSError as error:
                raise Failure(f"{name} could not be started: {error}") from None
        self.children.append(Child(name, process, stop, lasting))
        return self.children[-1]

    def finish(self, child: Child) -> int:
        """Wait until a process has ended and return its exit code."""
        while child.process.poll() is None:
            self.pause(0.05)
        self.children.remove(child)
        return child.process.returncode

    def check(self, *children: Child) -> None:
        """Wait until processes have ended.

        Raises:
            Failure: one of them failed.
        """
        for child in children:
            if code := self.finish(child):
                raise Failure(f"{child.name} failed with exit code {code}.{self.tail(child.name)}")

    def pause(self, seconds: float) -> None:
        """Sleep; every wait comes through here.

        Raises:
            Stopped: somebody asked us to end.
            Failure: a server has ended.
        """
        if not self.interrupted:
            time.sleep(seconds)
        if self.interrupted:
            raise Stopped
        for child in self.children:
            if child.lasting and child.process.poll() is not None:
                raise Failure(f"{child.name} ended with code {child.process.returncode}.{self.tail(child.name)}")

    def wait_for(self, name: str, ready: Callable[[], bool]) -> None:
        """Wait until a server answers.

        Raises:
            Failure: it does not.
        """
        deadline = time.monotonic() + START_PATIENCE
        while not ready():
            if time.monotonic() > deadline:
                raise Failure(f"{name} gave no answer for {START_PATIENCE} seconds.{self.tail(name)}")
            self.pause(0.1)

    def tail(self, name: str) -> str:
        """Return the end of a log, if there is something in it."""
        lines = (self.folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "".join(f"\n    {line}" for line in lines[-15:])


def end(child: Child) -> None:
    """End a process politely, then whatever is left of its process group."""
    child.process.send_signal(child.stop)
    with suppress(subprocess.TimeoutExpired):
        child.process.wait(STOP_PATIENCE)
    with suppress(ProcessLookupError):
        os.killpg(child.process.pid, signal.SIGKILL)
    child.process.wait()
