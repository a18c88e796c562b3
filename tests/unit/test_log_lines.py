"""Log lines carry facts as key=value, and never an exception's own text, which may quote rows or passwords."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = [path for package in ("synchro", "synchro_tasks") for path in sorted((ROOT / package).rglob("*.py"))]
METHODS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
PLACEHOLDER = re.compile(r"(\S*)%[srd]")


def log_calls(path: Path) -> Iterator[ast.Call]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "logger"
        ):
            assert node.func.attr in METHODS
            yield node


CALLS = [
    pytest.param(path, call, id=f"{path.relative_to(ROOT)}:{call.lineno}") for path in FILES for call in log_calls(path)
]


def test_there_are_some() -> None:
    assert len(CALLS) > 5


@pytest.mark.parametrize(("path", "call"), CALLS)
def test_facts_are_named(path: Path, call: ast.Call) -> None:
    text = call.args[0]
    assert isinstance(text, ast.Constant), "a text with placeholders, which logging fills in where it is needed"
    before = PLACEHOLDER.findall(str(text.value).removesuffix("\n%s"))  # frames are too long for a fact
    assert all(re.fullmatch(r"\w+=", each) for each in before), text.value
    assert "\n" not in str(text.value).removesuffix("\n%s")


@pytest.mark.parametrize(("path", "call"), CALLS)
def test_no_exception_speaks_for_itself(path: Path, call: ast.Call) -> None:
    assert isinstance(call.func, ast.Attribute)
    assert call.func.attr != "exception"
    assert not [keyword for keyword in call.keywords if keyword.arg == "exc_info"]
