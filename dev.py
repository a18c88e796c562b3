#!/usr/bin/env python3
"""Run the demo, the tests or the benchmarks on a machine that has nothing but Python and pip.

Makes `.venv`, starts a private PostgreSQL and a private Redis on free loopback ports, and stops them at the end.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 -- this file is run with whatever Python is there
    sys.exit(f"dev.py needs Python 3.11 or newer, and this is {sys.version.split()[0]}. Try: python3.12 dev.py ...")

import argparse
import os
import secrets
import signal
import subprocess
from contextlib import suppress
from typing import Any

from devtools.environment import PYTHON, ROOT, environment, make_environment
from devtools.processes import Child, Failure, Processes, Stopped, say
from devtools.servers import FAST, answers, free_port, start_postgres, start_redis

EXAMPLE = ROOT / "example"
#: Each test mostly waits for a server: two at a time use two processors well. A file's tests share databases.
IN_PARALLEL = ("--numprocesses=2", "--dist=loadfile")
#: Groups of packages in pyproject.toml.
NEEDS = {"test": ["test", "demo"], "chaos": ["test"], "lint": ["test", "lint"], "bench": ["bench"]}


def with_servers(processes: Processes, module: str, *arguments: str, settings: tuple[str, ...] = ()) -> int:
    """Run a Python module with a PostgreSQL and a Redis, those that the environment names or our own."""
    servers = {name: os.environ[name] for name in ("SYNCHRO_POSTGRES", "SYNCHRO_REDIS") if name in os.environ}
    if "SYNCHRO_POSTGRES" not in servers:
        servers["SYNCHRO_POSTGRES"] = start_postgres(processes, settings=settings) + "/postgres"
    if "SYNCHRO_REDIS" not in servers:
        servers["SYNCHRO_REDIS"] = start_redis(processes)
    return run(processes, module, *arguments, **servers)


def run(processes: Processes, module: str, *arguments: str, **variables: str) -> int:
    """Run a Python module at the terminal and return its exit code."""
    say(f"Running {' '.join((module, *arguments))}")
    options: dict[str, Any] = {"stdin": None, "stdout": None, "stderr": None, "stop": signal.SIGINT}
    options |= {"cwd": ROOT, "env": environment(**variables)}
    return processes.finish(processes.start(module, PYTHON, "-m", module, *arguments, **options))


def lint(processes: Processes) -> int:
    """Run the linters and the type checker; return 1 if one of them complains."""
    example = ("mypy", "--config-file", "example/mypy.ini", "example")
    tools = (("ruff", "check"), ("ruff", "format", "--check"), ("mypy",), example)
    settings = environment(DEBUG="1", PYTHONPATH=str(EXAMPLE))
    visible: dict[str, Any] = {"stdout": None, "stderr": None, "cwd": ROOT, "env": settings}
    codes = []
    for tool in tools:
        say(f"Running {' '.join(tool)}")
        codes.append(processes.finish(processes.start(tool[0], PYTHON, "-m", *tool, **visible)))
    return int(any(codes))


class Demo:
    """The example project with all its processes."""

    def __init__(self, processes: Processes, *, sqlite: bool) -> None:
        self.processes = processes
        self.password = secrets.token_urlsafe(9)
        databases = f"sqlite:///{processes.folder}" if sqlite else start_postgres(processes, "local", "remote")
        self.environment = environment(
            DJANGO_SETTINGS_MODULE="project.settings",
            LOCAL_DATABASE_URL=f"{databases}/local",
            REMOTE_DATABASE_URL=f"{databases}/remote",
            CELERY_BROKER_URL=start_redis(processes),
            SECRET_KEY=secrets.token_urlsafe(32),
            DJANGO_SUPERUSER_PASSWORD=self.password,
            FLOWER_BASIC_AUTH=f"admin:{self.password}",
        )

    def start(self, name: str, *command: str, **options: Any) -> Child:
        """Start a Python program in the folder of the example project."""
        return self.processes.start(name, PYTHON, *command, cwd=EXAMPLE, env=self.environment, **options)

    def migrate(self) -> None:
        """Migrate both databases at the same time."""
        say("Migrating both databases")
        aliases = ("default", "remote")
        migrations = [self.start(f"migrate {alias}", "manage.py", "migrate", "--database", alias) for alias in aliases]
        self.processes.check(*migrations)

    def start_services(self) -> dict[str, str]:
        """Start everything that a real site would run; return the addresses of the web pages."""
        say("Starting worker, beat, Flower and the web server")
        celery = ("-m", "celery", "--quiet", "--app", "project")
        web, flower = free_port(), free_port()
        worker = ("worker", "--concurrency=2", "--without-mingle", "--without-gossip")
        self.start("worker", *celery, *worker, stop=signal.SIGQUIT, lasting=True)
        self.start("beat", *celery, "beat", "--pidfile=", lasting=True)
        self.start("flower", *celery, "flower", "--address=127.0.0.1", f"--port={flower}", lasting=True)
        self.start("web", "manage.py", "runserver", "--noreload", "--insecure", f"127.0.0.1:{web}", lasting=True)
        site = f"http://127.0.0.1:{web}"
        return {"Admin": f"{site}/admin/", "Synchro": f"{site}/synchro/", "Flower": f"http://127.0.0.1:{flower}/"}

    def make_superuser(self) -> None:
        """Let somebody in; the password comes from the environment."""
        command = ("manage.py", "createsuperuser", "--noinput", "--username=admin", "--email=admin@localhost")
        self.processes.check(self.start("createsuperuser", *command))

    def manage(self, *arguments: str, stdout: int | None = None) -> str:
        """Run a management command at the terminal and return its output if that goes to a pipe.

        Raises:
            Failure: it failed, after it has said why.
        """
        child = self.start(arguments[0], "manage.py", *arguments, stdout=stdout, stderr=None)
        if self.processes.finish(child):
            log = self.processes.tail("worker")
            raise Failure(f"manage.py {arguments[0]} failed." + (f" The worker's log ends with:{log}" if log else ""))
        return child.process.stdout.read().strip() if child.process.stdout else ""


def demo(processes: Processes, *, check: bool, sqlite: bool, cities: int | None) -> int:
    """Show the example project at work, from empty databases to equal ones, and then on until Ctrl-C."""
    site = Demo(processes, sqlite=sqlite)
    site.migrate()
    pages = site.start_services()
    say("Importing continents, countries, languages, currencies and cities on LOCAL, save by save")
    limit = () if cities is None else (f"--cities={cities}",)
    speed = site.manage("import_atlas", "--watch", *limit, stdout=subprocess.PIPE)
    site.make_superuser()
    say("Making 100 random edits, 20 a second")
    latency = site.manage("trickle_atlas", "--edits=100", "--rate=20", stdout=subprocess.PIPE)
    say("Comparing all rows of both sides, value by value")
    site.manage("compare_atlas")
    processes.wait_for("web", lambda: answers(pages["Admin"]))
    processes.wait_for("flower", lambda: answers(pages["Flower"]))
    say(f"Everything is equal. {speed}; {latency}")
    if check:
        return 0
    for name, url in pages.items():
        print(f"  {name:<8} {url}  user admin, password {site.password}")
    say(f"Editing on, until Ctrl-C. The logs are in {processes.folder}")
    with suppress(Stopped):
        site.manage("trickle_atlas")
    return 0


def parse(words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line; what follows `test`, `bench` and `chaos` is for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{demo,test,bench,chaos,lint}")
    demo = commands.add_parser("demo", help="replicate the cities of the world from one database to another")
    demo.add_argument("--check", action="store_true", help="end after the comparison, with exit code 0 or 1")
    demo.add_argument("--sqlite", action="store_true", help="use two SQLite files instead of PostgreSQL")
    demo.add_argument("--cities", type=int, metavar="N", help="only the N biggest cities")
    commands.add_parser("test", help="run the test suite; arguments go to pytest", add_help=False)
    commands.add_parser("bench", help="run the benchmarks; arguments go to them", add_help=False)
    commands.add_parser("chaos", help="random writers and random faults: --seed N --seconds T", add_help=False)
    commands.add_parser("lint", help="run ruff and mypy")
    arguments, rest = parser.parse_known_args(words)
    if rest and arguments.command in ("demo", "lint"):
        parser.error(f"{arguments.command} does not know {' '.join(rest)}")
    return arguments, rest


def main() -> int:
    """Run the command and return the exit code."""
    arguments, rest = parse(sys.argv[1:])
    try:
        with Processes() as processes:
            make_environment(processes, *NEEDS.get(arguments.command, ()))
            if arguments.command == "lint":
                return lint(processes)
            if arguments.command == "demo":
                return demo(processes, check=arguments.check, sqlite=arguments.sqlite, cities=arguments.cities)
            if arguments.command == "test":
                return with_servers(processes, "pytest", *IN_PARALLEL, *rest, settings=FAST)
            if arguments.command == "chaos":
                return run(processes, "tests.chaos", *rest)  # it starts servers that it may stop and kill
            return with_servers(processes, "benchmarks", *rest)
    except (Failure, OSError) as error:
        print(f"dev.py: {error}", file=sys.stderr)
        return 1
    except Stopped:
        return 130


if __name__ == "__main__":
    sys.exit(main())
