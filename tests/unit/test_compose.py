"""compose.yaml is valid, complete, closed to the outside and free of secrets. Its commands run in tests/acceptance."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
COMPOSE_FILE = ROOT / "compose.yaml"
TEXT = COMPOSE_FILE.read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = YAML(typ="safe").load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE_ENV = (ROOT / "compose.env.example").read_text(encoding="utf-8")

SERVERS = {"local-db", "remote-db", "redis"}
PROCESSES = {"web", "worker", "beat", "flower"}
SECRET = re.compile("PASSWORD|SECRET|AUTH|TOKEN|KEY")
REQUIRED_VARIABLE = re.compile(r"\$\{(\w+):\?[^}]+\}")


def environment_values() -> list[tuple[str, str, str]]:
    return [(name, key, value) for name, service in SERVICES.items() for key, value in environment(service).items()]


def environment(service: dict[str, Any]) -> dict[str, str]:
    return service.get("environment", {})


def example_values() -> dict[str, str]:
    lines = (line for line in EXAMPLE_ENV.splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


def test_it_follows_the_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(COMPOSE_FILE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_whole_site_is_there() -> None:
    assert set(SERVICES) == SERVERS | PROCESSES | {"migrate"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_every_dependency_exists_and_can_be_met(name: str) -> None:
    for target, rule in SERVICES[name].get("depends_on", {}).items():
        assert target in SERVICES
        if rule["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[target]
        else:
            assert rule["condition"] == "service_completed_successfully"
            assert SERVICES[target]["restart"].startswith("on-failure")


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_processes_wait_for_the_tables_and_the_broker(name: str) -> None:
    assert set(SERVICES[name]["depends_on"]) == {"migrate", "redis"}


@pytest.mark.parametrize("name", sorted(SERVERS | PROCESSES))
def test_every_server_and_process_is_watched_and_restarted(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"]


def test_ports_are_published_on_loopback_only() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert set(ports) == {"web", "flower"}
    assert all(port.startswith("127.0.0.1:") for published in ports.values() for port in published)


@pytest.mark.parametrize(("service", "name", "value"), environment_values())
def test_no_secret_is_committed(service: str, name: str, value: str) -> None:
    if SECRET.search(name):
        assert REQUIRED_VARIABLE.sub("", value).strip(":") == ""
    for password in re.findall(r"://[^:/@]*:(.*)@", value):
        assert REQUIRED_VARIABLE.fullmatch(password)


def test_no_variable_has_a_default() -> None:
    assert sorted(set(REQUIRED_VARIABLE.findall(TEXT))) == sorted(example_values())
    assert TEXT.count("${") == len(REQUIRED_VARIABLE.findall(TEXT))


def test_the_example_of_the_environment_holds_no_secret() -> None:
    assert [name for name, value in example_values().items() if SECRET.search(name) and value] == []


def test_flower_asks_for_a_password() -> None:
    assert "FLOWER_BASIC_AUTH" in environment(SERVICES["flower"])


def test_redis_keeps_its_messages() -> None:
    command = SERVICES["redis"]["command"]
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command
    assert SERVICES["redis"]["volumes"] == ["redis:/data"]


def test_flower_keeps_what_it_has_seen() -> None:
    (volume,) = SERVICES["flower"]["volumes"]
    assert environment(SERVICES["flower"])["FLOWER_PERSISTENT"] == "true"
    assert environment(SERVICES["flower"])["FLOWER_DB"].startswith(volume.partition(":")[2])
    assert volume.partition(":")[2] in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(SERVERS | {"flower"}))
def test_data_outlives_the_container(name: str) -> None:
    (volume,) = SERVICES[name]["volumes"]
    assert volume.partition(":")[0] in COMPOSE["volumes"]


def test_the_image_installs_this_checkout() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    sources = [word for line in re.findall(r"^COPY (.+)$", dockerfile, re.M) for word in line.split()[:-1]]
    assert {"synchro", "synchro_tasks", "example", "pyproject.toml"} <= set(sources)
    assert [source for source in sources if not (ROOT / source).exists()] == []
    assert re.search(r"^USER (?!root)", dockerfile, re.M)
