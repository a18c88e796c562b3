"""The imports point one way, and the core knows nothing of Celery."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The top-level modules of synchro, the lowest layer first. A module imports from its own layer and from lower ones.
LAYERS = (
    {"conf", "exceptions", "pausing", "signals"},
    {"keys", "lookups", "models", "moments", "natural_keys", "prepared", "refusals", "registry", "rows", "staging"},
    {"capture"},
    {"engine"},
    {"compare"},
    {"core", "inspection"},
    {"apps", "audit", "checks", "admin", "views", "urls", "management"},
)
# Modules on the outside and who may still import them: Django's own entry points, and nobody else.
OUTSIDE: dict[str, set[str]] = {
    "admin": set(),
    "apps": set(),
    "audit": {"admin", "views"},
    "checks": {"apps"},
    "management": set(),
    "urls": set(),
    "views": {"urls"},
}
# The engine's own road, seen from its end: each module imports from those before it.
ENGINE = (
    *(
        "errors",
        "timeouts",
        "link",
        "locks",
        "conflicts",
        "natural",
        "resolve",
        "relations",
        "followers",
        "steps",
        "apply",
    ),
    *("members", "values", "contest", "temporary", "uniques", "acknowledge", "copies", "batch", "adopt", "holds"),
    *("record", "report", "run", "sync", "difference"),
)
# Libraries that make something nicer where they are installed.
OPTIONAL = {"tqdm"}


@dataclass(frozen=True)
class Import:
    """One import statement: which module says it, and which module it names."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"

    @property
    def root(self) -> str:
        return self.imported.partition(".")[0]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package_modules(package: str) -> dict[str, Path]:
    return {module_name(path): path for path in sorted((ROOT / package).rglob("*.py"))}


def imports_of(importer: str, path: Path, known: set[str]) -> Iterator[Import]:
    """Every import of a file, those inside functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(importer, alias.name, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            base = absolute_base(importer, path, node)
            for alias in node.names:
                submodule = f"{base}.{alias.name}"
                yield Import(importer, submodule if submodule in known else base, node.lineno)


def absolute_base(importer: str, path: Path, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = importer.split(".")
    package = parts if path.name == "__init__.py" else parts[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def imports_in(package: str) -> list[Import]:
    modules = package_modules(package)
    known = set(modules)
    return [found for name, path in modules.items() for found in imports_of(name, path, known)]


def part(module: str) -> str:
    """The name right below the package: 'engine' for synchro.engine.sync; '' for the package itself."""
    return ".".join(module.split(".")[1:2])


def layer(module: str) -> int:
    return next(number for number, names in enumerate(LAYERS) if part(module) in names)


def inner_imports() -> list[Import]:
    """Imports from one part of synchro to another. Migrations follow Django's rules; the package looks names up."""
    return [
        found
        for found in imports_in("synchro")
        if found.root == "synchro" and part(found.importer) not in {"", "migrations"} and part(found.imported)
    ]


def test_every_module_has_its_layer() -> None:
    known = set().union(*LAYERS) | {"", "migrations"}
    unknown = {part(module) for module in package_modules("synchro")} - known
    assert not unknown, f"put {sorted(unknown)} into one of the LAYERS"


def test_the_core_needs_django_only() -> None:
    allowed = {"synchro", "django", *sys.stdlib_module_names, *OPTIONAL}
    assert [str(found) for found in imports_in("synchro") if found.root not in allowed] == []


@pytest.mark.parametrize("stranger", ["synchro_tasks", "celery", "kombu", "django_celery_beat"])
def test_the_core_never_imports(stranger: str) -> None:
    assert [str(found) for found in imports_in("synchro") if found.root == stranger] == []


def test_imports_point_downwards() -> None:
    upwards = [found for found in inner_imports() if layer(found.imported) > layer(found.importer)]
    assert [str(found) for found in upwards] == []


def test_the_engine_is_one_road() -> None:
    prefix = "synchro.engine."
    order = {f"{prefix}{name}": number for number, name in enumerate(ENGINE)}
    inner = [found for found in inner_imports() if found.importer in order and found.imported.startswith(prefix)]
    assert {name for name in package_modules("synchro") if name.startswith(prefix)} == set(order)
    assert [str(found) for found in inner if order[found.imported] > order[found.importer]] == []


@pytest.mark.parametrize("module", sorted(OUTSIDE))
def test_nobody_imports_the_outside(module: str) -> None:
    importers = {part(found.importer) for found in inner_imports() if part(found.imported) == module} - {module}
    assert importers <= OUTSIDE[module]


def test_the_package_itself_imports_nothing_early() -> None:
    """`from synchro import ...` works from a models.py: nothing that needs the app registry comes with the package."""
    tree = ast.parse((ROOT / "synchro" / "__init__.py").read_text(encoding="utf-8"))
    early = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in early if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "." for node in early if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names)


def test_the_tasks_use_the_core_by_its_doors() -> None:
    """synchro_tasks reaches REMOTE through synchro.engine itself, never through one of its parts."""
    inner = ("synchro.engine.", "synchro.compare.")
    assert [str(found) for found in imports_in("synchro_tasks") if found.imported.startswith(inner)] == []
