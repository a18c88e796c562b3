"""A progress bar for the terminal: tqdm's where it is installed, else one line that counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


@contextmanager
def progress_bar(total: int, *, stream: TextIO | Any) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs; call what it yields with the number of entries that are done."""
    try:
        from tqdm import tqdm
    except ImportError:
        with _counter(total, stream) as advance:
            yield advance
        return
    with tqdm(total=total, unit="", file=stream) as bar:
        yield lambda count: None if bar.update(count) is None else None


@contextmanager
def _counter(total: int, stream: Any) -> Iterator[Callable[[int], None]]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        stream.write(f"\r{done}/{total}", ending="")
        stream.flush()

    yield advance
    stream.write("")
