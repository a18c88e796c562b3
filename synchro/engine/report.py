"""What a synchronization did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Failure:
    """An object that could not be brought to REMOTE, and why."""

    model: str
    object_id: str
    error: str
    #: Whether it only waits, for another object or for who has locked it, and goes through without anybody's help.
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """What a synchronization did."""

    synced: int = 0
    skipped: int = 0
    failures: tuple[Failure, ...] = ()
    #: Synced objects by model label.
    by_model: dict[str, int] = field(default_factory=dict)
    #: Models that are left alone because REMOTE or LOCAL lacks what they need, and why; '' is REMOTE as a whole.
    held: dict[str, str] = field(default_factory=dict)
    #: Objects that waited for others which have arrived, by label and object id: they are due now.
    woken: tuple[tuple[str, str], ...] = ()
    #: Whether something that was held back works again.
    recovered: bool = False

    def __add__(self, other: Report) -> Report:
        labels = {**self.by_model, **other.by_model}
        return Report(
            self.synced + other.synced,
            self.skipped + other.skipped,
            self.failures + other.failures,
            {label: self.by_model.get(label, 0) + other.by_model.get(label, 0) for label in labels},
            {**self.held, **other.held},
            self.woken + other.woken,
            self.recovered or other.recovered,
        )

    @property
    def settled(self) -> int:
        """The objects that need nothing more: synced, or skipped because REMOTE is newer."""
        return self.synced + self.skipped

    @property
    def is_empty(self) -> bool:
        """Whether there was nothing to do."""
        return not (self.synced or self.skipped or self.failures or self.held)
