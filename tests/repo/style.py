"""The house style that linters do not know: sizes, openings, names, and who reads the environment.

Each finding is one line, `path:line: what`, as an editor can jump to. The limits are the house's `about 400` and
`about 50` with a little air, so that a limit is never met by cutting where it hurts.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.repo.tree import ROOT, python_files, text_files

MODULE_LINES = 450
FUNCTION_LINES = 60
VAGUE_NAMES = frozenset({"helper", "helpers", "misc", "util", "utils"})

# In pieces, as this file is read too.
FORBIDDEN_TEXT = {
    "pypi" + ".org": "a registry's address",
    "files.python" + "hosted": "a registry's address",
    "repo1." + "maven": "a registry's address",
    "repo.maven" + ".apache": "a registry's address",
    "maven." + "google": "a registry's address",
    "registry." + "npmjs": "a registry's address",
    "/wo" + "rk/": "a path of one machine",
    "/ro" + "ot/": "a path of one machine",
    "/tmp" + "/t/": "a path of one machine",
}
UNFINISHED = ("TO" + "DO", "FIX" + "ME", "XX" + "X:", "HA" + "CK:")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def findings(root: Path = ROOT) -> list[str]:
    """Everything wrong with the packages' modules and the tracked texts of `root`."""
    found: list[str] = []
    for path in python_files(root):
        name = str(path.relative_to(root))
        found += [f"{name}:{line}: {what}" for line, what in module_findings(name, path.read_text("utf-8"))]
    for path in python_files(root, ("tests", "benchmarks", "examples")):
        name = str(path.relative_to(root))
        tree = ast.parse(path.read_text("utf-8"))
        found += [f"{name}:{line}: {what}" for line, what in _calls(tree)]
    for path, text in text_files(root):
        found += [f"{path.relative_to(root)}:{line}: {what}" for line, what in text_findings(text)]
    return found


def module_findings(name: str, text: str) -> Iterator[tuple[int, str]]:
    """What is wrong with one module of the packages; `name` is its path from the root, with slashes."""
    tree = ast.parse(text)
    lines = text.count("\n") + 1
    stem = name.rpartition("/")[2].removesuffix(".py")
    if stem in VAGUE_NAMES:
        yield 1, f"a module called {stem} says nothing about what it holds"
    if lines > MODULE_LINES:
        yield lines, f"{lines} lines; a module has at most {MODULE_LINES}"
    if not ast.get_docstring(tree):
        yield 1, "no docstring: a module opens with what it is and why"
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield from _function_findings(node)
    yield from _calls(tree)
    if name.startswith("services/") and stem != "settings":
        yield from _environment(tree)


def text_findings(text: str) -> Iterator[tuple[int, str]]:
    """Addresses of registries, paths of one machine, and unfinished business in any tracked text."""
    for number, line in enumerate(text.splitlines(), 1):
        for needle, why in FORBIDDEN_TEXT.items():
            if needle in line:
                yield number, f"{needle!r} is {why}"
        for mark in UNFINISHED:
            if mark in line:
                yield number, f"{mark} is unfinished business: finish it or file it"


def _function_findings(node: Function) -> Iterator[tuple[int, str]]:
    # What is defined inside counts for itself: a factory of routes is long without being one long thought.
    inner = [child for child in node.body if isinstance(child, Function)]
    lines = _length(node) - sum(_length(child) for child in inner)
    if lines > FUNCTION_LINES:
        yield node.lineno, f"{node.name} has {lines} lines; a function has at most {FUNCTION_LINES}"
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    arguments += [extra for extra in (node.args.vararg, node.args.kwarg) if extra]
    bare = [arg.arg for arg in arguments if arg.annotation is None and arg.arg not in ("self", "cls")]
    if bare:
        yield node.lineno, f"{node.name}: no annotation on {', '.join(bare)}"
    if node.returns is None:
        yield node.lineno, f"{node.name}: no return annotation"


def _length(node: Function) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("eval", "exec")
        ):
            yield node.lineno, f"{node.func.id} runs whatever it is given"


def _environment(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        through_os = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv", "environb")
        imported = isinstance(node, ast.ImportFrom) and (
            (node.module == "os" and any(alias.name in ("environ", "getenv") for alias in node.names))
            or node.module == "pydantic_settings"
        )
        if through_os or imported:
            yield node.lineno, "only settings.py reads the environment in a service"  # type: ignore[attr-defined]
