"""Servers that belong to this test run alone, so that tests may stop, freeze and kill them.

Needs no Django: the settings of the test project can only be read when the servers have addresses.
"""

from __future__ import annotations

from devtools.processes import Processes
from devtools.servers import CRASH_SAFE, Postgres, Redis

#: The aliases of LOCAL and REMOTE, each on a server of its own.
LOCAL, REMOTE = "postgres_local", "postgres_remote"


class PrivateServers:
    """A PostgreSQL for LOCAL, one for REMOTE, and a Redis. Nothing of them is left after ``close()``."""

    def __init__(self) -> None:
        """Make the files of the servers.

        Raises:
            Failure: there are no servers in this environment.
        """
        self._processes = Processes()
        try:
            self.local = Postgres(self._processes, name="local", settings=CRASH_SAFE, lasting=False)
            self.remote = Postgres(self._processes, name="remote", settings=CRASH_SAFE, lasting=False)
            self.redis = Redis(self._processes, lasting=False)
        except BaseException:
            self.close()
            raise

    @property
    def environment(self) -> dict[str, str]:
        """What tells the settings of a child process where they are."""
        return {"SYNCHRO_TEST_LOCAL_SERVER": self.local.url, "SYNCHRO_TEST_REMOTE_SERVER": self.remote.url}

    def start(self) -> None:
        """Start those that do not run."""
        for server in (self.local, self.remote, self.redis):
            if not server.is_running:
                server.start()

    def close(self) -> None:
        """End all of them."""
        self._processes.close()
