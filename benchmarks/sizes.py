"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """The sizes of all measurements, in proportion to the rows of the catch-up."""

    rows: int = 20_000
    repeat: int = 3

    @property
    def naive_rows(self) -> int:
        """Rows of the contender that is too slow for all of them."""
        return max(self.rows // 10, 1)

    @property
    def objects(self) -> int:
        """Objects of each kind of model."""
        return max(self.rows // 20, 20)

    @property
    def burst(self) -> int:
        """Single commits of the burst."""
        return max(self.rows // 2, 1)

    @property
    def trickle_seconds(self) -> float:
        """How long the trickle of single commits goes on."""
        return max(30 * self.rows / 20_000, 2)

    @property
    def saves(self) -> int:
        """Saves of each kind."""
        return max(self.rows // 10, 20)

    @property
    def synced_entries(self) -> int:
        """Settled entries in a log that has been in use for long."""
        return self.rows * 50

    @property
    def compared(self) -> int:
        """Rows of tables that are compared, and loaded for the first time."""
        return self.rows * 50

    @property
    def pending_entries(self) -> int:
        """Pending entries beside them."""
        return max(self.rows // 20, 1)

    @property
    def backlog(self) -> int:
        """Pending entries, where there are too many for a checkpoint."""
        return self.rows * 50

    @property
    def outage(self) -> int:
        """Changes that are logged while REMOTE is away."""
        return self.rows * 5

    @property
    def outage_seconds(self) -> float:
        """How long it is away at least."""
        return max(120 * self.rows / 20_000, 5)
