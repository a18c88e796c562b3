"""Progress on a terminal: tqdm's bar where it is installed, else a line that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management.base import OutputWrapper


@contextmanager
def progress_bar(total: int, *, out: OutputWrapper, label: str = "", done: int = 0) -> Iterator[Callable[[int], None]]:
    """Show progress on a terminal while the block runs; call what it yields with the number of entries just done.

    Args:
        label: what the progress is about.
        done: what an earlier run has done.
    """
    terminal = Terminal(out)
    try:
        from tqdm import tqdm
    except ImportError:
        bar: Any = Counter(total, terminal, label, done)
    else:
        bar = tqdm(total=total, initial=done, desc=label or None, file=terminal, dynamic_ncols=True)
    try:
        yield bar.update
    finally:
        bar.close()


class Terminal:
    """The stream behind a command's output, which itself would end every write with a newline and colour it."""

    def __init__(self, out: OutputWrapper) -> None:
        self.out = out

    def write(self, text: str) -> None:
        """Write the text and nothing else."""
        self.out.write(text, str, ending="")

    def flush(self) -> None:
        """Show what was written."""
        self.out.flush()

    def fileno(self) -> int:
        """Return the terminal's number, by which tqdm asks for its width."""
        return self.out.fileno()


class Counter:
    """A line that counts, with the methods of tqdm's bar."""

    def __init__(self, total: int, terminal: Terminal, label: str, done: int) -> None:
        self.total = total
        self.terminal = terminal
        self.label = f"{label}: " if label else ""
        self.done = done
        self.update(0)

    def update(self, count: int) -> None:
        """Count on, and write the line anew."""
        self.done += count
        self.terminal.write(f"\r{self.label}{self.done}/{max(self.done, self.total)}")
        self.terminal.flush()

    def close(self) -> None:
        """Leave the line."""
        self.terminal.write("\n")
