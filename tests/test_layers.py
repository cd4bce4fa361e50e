"""The layers of the package: a module imports from lower layers and from its own, never upwards.

Only the source is read; nothing is imported. To place a new module, add it to `LAYERS`. Files are
small: one that is not says why in its first lines.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "distkit_actors"
ROOT = Path(__file__).resolve().parent.parent / PACKAGE

# A name stands for the module or subpackage and all that is below it; the longest one counts.
INIT = "__init__"  # distkit_actors/__init__.py
LAYERS: tuple[tuple[str, ...], ...] = (
    ("_errors", "_public", "_version"),
    ("_protocol",),
    ("_instance", "_namespace"),
    ("_stores",),
    ("_actor", "_actor._groups", "_actor._operations", "_actor._life", "_actor._statistics"),
    ("_actor._admission", "_actor._log"),
    ("_actor._availability",),
    ("_actor._mailbox",),
    ("_actor._outcomes",),
    ("_actor._queries", "_actor._releases", "_actor._flush_waiters"),
    ("_actor._counts_first", "_actor._exclusive"),
    ("_actor._dispatch", "_actor._watches"),
    ("_actor._agenda", "_actor._requester", "_actor._watching"),
    ("_actor._batch_loop",),
    ("_actor._start", "_actor._timers"),
    ("_actor._actor",),
    ("_actor._scatter", "_actor._shared_life"),
    ("_actor._partitioned",),
    ("_counters", "_counters._base", "_counters._options"),
    (
        "_counters._batches",
        "_counters._block",
        "_counters._conditional",
        "_counters._fleet",
        "_counters._hold",
        "_counters._local_view",
        "_counters._watching",
    ),
    (
        "_counters._counter",
        "_counters._handle",
        "_counters._lax",
        "_counters._lax_handle",
        "_counters._strict",
    ),
    ("_fleet", "_limiter", "abc"),
    ("_monitoring",),
    ("opentelemetry", "prometheus"),
    (INIT,),
    ("_demo", "testing"),
    ("_cli",),
    ("__main__",),
)

# What each may import from outside, beside the standard library. Those not listed: trio.
OUTSIDE: Mapping[str, frozenset[str]] = {
    "_protocol": frozenset(),
    "_instance": frozenset(),
    "_namespace": frozenset(),
    "_stores": frozenset({"hiredis", "redis", "trio", "trio_asyncio"}),
    "_actor": frozenset({"outcome", "trio"}),
    "_demo": frozenset({"rich", "trio"}),
    "testing": frozenset({"pytest", "trio"}),  # pytest in `fixtures` only
    "_cli": frozenset({"click", "rich", "trio"}),
    "_monitoring": frozenset({"opentelemetry", "prometheus_client"}),
}
TRIO_ONLY = frozenset({"trio"})

# Who may import asyncio, and what of the standard library the pure must not.
ASYNCIO_BELONGS_TO = "_stores._redis._bridge"
IMPURE = frozenset({"logging", "os", "random", "secrets", "socket", "threading", "time", "uuid"})
PURE = frozenset({"_protocol", "_instance", "_namespace", "_errors"})

# Of `_stores` these know the contract, never a store.
KNOW_ONLY_THE_CONTRACT = frozenset({"_actor"})
CONTRACT = "_stores._contract"

# The two halves of the protocol: what they say to each other is in `_protocol`, and neither knows
# the other. Only stores keep namespaces; `abc` gives them to those of others.
HALVES = frozenset({"_instance", "_namespace"})
KEEP_NAMESPACES = frozenset({"_namespace", "_stores", "abc"})

# Importing it patches asyncio for the whole process, so that is left until a loop is needed.
LAZY_ONLY = frozenset({"trio_asyncio"})

# A file with more lines says why in its docstring: "longer than others".
LONG = 300


@dataclass(frozen=True)
class Import:
    target: str
    line: int
    at_import_time: bool


def package_of(module: str) -> str:
    """The part of the package that `module` is in, as the folder listing shows it."""
    return module.partition(".")[0]


def is_in(module: str, package: str) -> bool:
    """Whether ``module`` is ``package`` or something in it."""
    return f"{module}.".startswith(f"{package}.")


def part_of(module: str, rank: Mapping[str, int]) -> str:
    """The entry of `LAYERS` that `module` belongs to, if it is placed."""
    while module not in rank and "." in module:
        module = module.rpartition(".")[0]
    return module


def module_name(root: Path, path: Path) -> str:
    """`_stores._memory` for `<root>/_stores/_memory.py`; a package is called as its directory."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    if len(parts) > 1 and parts[-1] == INIT:
        parts.pop()
    return ".".join(parts)


class ImportFinder(ast.NodeVisitor):
    """Collects every import of one module, those of the package by their name inside it."""

    def __init__(self, root: Path, path: Path, modules: set[str]) -> None:
        self.modules = modules
        self.package = [PACKAGE, *path.relative_to(root).parent.parts]
        self.found: list[Import] = []
        self.in_function = False
        self.in_typing = False

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        before, self.in_function = self.in_function, True
        self.generic_visit(node)
        self.in_function = before

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's names
    visit_Lambda = visit_FunctionDef  # noqa: N815

    def visit_If(self, node: ast.If) -> None:
        before = self.in_typing
        self.in_typing = before or ast.unparse(node.test).endswith("TYPE_CHECKING")
        for child in node.body:
            self.visit(child)
        self.in_typing = before
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self.package[: len(self.package) - node.level + 1] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            self._add(f"{source}.{alias.name}", node.lineno)

    def _add(self, name: str, line: int) -> None:
        target = self._inside(name) or name
        at_import_time = not self.in_function and not self.in_typing
        self.found.append(Import(target, line, at_import_time))

    def _inside(self, name: str) -> str | None:
        """`distkit_actors._protocol._values.fits` is something of `_protocol._values`."""
        top, _, rest = name.partition(".")
        if top != PACKAGE:
            return None
        while rest and rest not in self.modules:
            rest = rest.rpartition(".")[0]
        return rest or INIT


def imports_of(root: Path) -> dict[str, list[Import]]:
    """Every module of the package with all it imports."""
    paths = {module_name(root, path): path for path in sorted(root.rglob("*.py"))}
    imports = {}
    for module, path in paths.items():
        finder = ImportFinder(root, path, set(paths))
        finder.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        imports[module] = finder.found
    return imports


def complaints(root: Path) -> Iterator[str]:
    """One sentence for everything that breaks a rule."""
    rank = {part: number for number, row in enumerate(LAYERS) for part in row}
    imports = imports_of(root)
    for module, found in imports.items():
        if part_of(module, rank) not in rank:
            yield f"{module} has no layer: add it to LAYERS in tests/test_layers.py"
            continue
        for one in found:
            reason = (
                upwards(module, one.target, rank)
                if one.target in imports
                else outside(module, one.target, one)
            )
            if reason:
                yield f"{module}, line {one.line}, imports {one.target}: {reason}"


def upwards(module: str, target: str, rank: Mapping[str, int]) -> str | None:
    """Why `module` must not import `target` of the same package."""
    mine, other = package_of(module), package_of(target)
    if part_of(target, rank) not in rank:
        return "it has no layer"
    if other == "testing" and mine != "testing":
        return "only tests use it"
    if mine in KNOW_ONLY_THE_CONTRACT and other == "_stores" and target != CONTRACT:
        return f"of the stores it knows {CONTRACT} only"
    if mine != other and HALVES.issuperset({mine, other}):
        return "the two halves of the protocol do not know each other"
    if other == "_namespace" and mine not in KEEP_NAMESPACES:
        return "only stores keep namespaces"
    if rank[part_of(target, rank)] > rank[part_of(module, rank)]:
        return "that is a higher layer"
    return None


def outside(module: str, target: str, one: Import) -> str | None:
    """Why `module` must not import `target`, which is not of this package."""
    mine, top = package_of(module), target.partition(".")[0]
    if top in {"asyncio", *LAZY_ONLY} and not is_in(module, ASYNCIO_BELONGS_TO):
        return "only the bridge may know asyncio"
    if top in IMPURE and mine in PURE:
        return "this layer is pure"
    if top in LAZY_ONLY and one.at_import_time:
        return "it patches asyncio process-wide, so import it inside the function that needs it"
    if top not in sys.stdlib_module_names and top not in OUTSIDE.get(mine, TRIO_ONLY):
        return "not among the dependencies of this layer, see OUTSIDE in tests/test_layers.py"
    return None


def long_without_a_reason(root: Path) -> Iterator[str]:
    """Modules with many lines whose docstrings do not say why."""
    for path in sorted(root.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        reason = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
        if source.count("\n") > LONG and "longer than others" not in reason:
            yield module_name(root, path)


def cycle(root: Path) -> list[str]:
    """Modules that import each other while they are imported, if there are any."""
    imports = imports_of(root)
    graph = {
        module: {one.target for one in found if one.at_import_time and one.target in imports}
        for module, found in imports.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_every_module_keeps_to_its_layer() -> None:
    assert list(complaints(ROOT)) == []


def test_no_modules_import_each_other() -> None:
    assert cycle(ROOT) == []


def test_a_long_file_says_why_it_is() -> None:
    assert list(long_without_a_reason(ROOT)) == []


def test_a_long_file_without_a_reason_is_found(tmp_path: Path) -> None:
    reason = '"""A table.\n\nThis file is longer\nthan others, as a table is.\n"""\n'
    changes = {
        f"{LAX}.py": "#\n" * (LONG + 1),
        f"{STRICT}.py": reason + "#\n" * LONG,
        "_actor/_actor.py": "#\n" * LONG,
    }
    plant(tmp_path, changes)
    assert list(long_without_a_reason(tmp_path)) == ["_counters._lax"]


def test_what_is_pure_never_awaits() -> None:
    found = [
        f"{path.name}, line {node.lineno}"
        for package in PURE
        for path in sorted((ROOT / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "absent"),
    [
        (f"import {PACKAGE}.testing", {"asyncio", "hiredis", "redis", *LAZY_ONLY}),
        (
            (
                f"import trio, {PACKAGE} as p\n"
                "async def main():\n"
                "    async with p.StrictInstanceAwareCounter.open('app', 'memory://') as counter:\n"
                "        await counter.inc('jobs')\n"
                "trio.run(main)"
            ),
            {"asyncio", "hiredis", "redis", *LAZY_ONLY},
        ),
        (f"import {PACKAGE}; {PACKAGE}.open_store('redis://localhost')", LAZY_ONLY),
        (f"from {PACKAGE} import RedisStore; RedisStore('redis://localhost')", LAZY_ONLY),
    ],
)
def test_nothing_is_imported_that_is_not_needed(source: str, absent: AbstractSet[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"{source}\nimport sys; print(*sys.modules)"],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert absent.isdisjoint(done.stdout.split())


def test_a_store_over_redis_says_where_to_import_it_from_however_it_was_made() -> None:
    source = f"import {PACKAGE} as p; print(type(p.open_store('redis://x')).__module__, dir(p))"
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=ROOT.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"{PACKAGE} [")
    assert "'RedisStore'" in done.stdout


@pytest.mark.parametrize(
    ("path", "source", "complaint"),
    [
        ("_protocol/_new.py", "from .._actor import x", "higher layer"),
        ("_protocol/_new.py", f"import {PACKAGE}._actor", "higher layer"),
        ("_protocol/_new.py", f"from {PACKAGE} import x", "higher layer"),
        ("_protocol/_new.py", "import trio", "not among the dependencies"),
        ("_protocol/_new.py", "def f():\n    import time", "pure"),
        ("_actor/_actor.py", "from .._stores import _memory", "_stores._contract only"),
        ("_actor/_actor.py", "from .._stores import MemoryStore", "_stores._contract only"),
        (
            "_actor/_actor.py",
            "if TYPE_CHECKING:\n    from .._counters._lax import x",
            "higher layer",
        ),
        ("_actor/_actor.py", "import redis.asyncio", "not among the dependencies"),
        ("_actor/_actor.py", "import asyncio", "may know asyncio"),
        ("_stores/_memory.py", "import asyncio", "may know asyncio"),
        ("_stores/_redis/_bridges.py", "import asyncio", "may know asyncio"),
        ("_stores/_memory.py", "def f():\n    import trio_asyncio", "may know asyncio"),
        ("_actor/_mailbox.py", "from . import _actor", "higher layer"),
        ("_stores/_redis/_bridge/_loop.py", "import trio_asyncio", "process-wide"),
        ("_stores/_redis/_bridge/_loop.py", "class A:\n    import trio_asyncio", "process-wide"),
        ("_demo/_new.py", "from ..testing import x", "only tests use it"),
        ("_instance/_new.py", "from .._namespace import _registry", "do not know each other"),
        ("_namespace/_new.py", "from .._instance import x", "do not know each other"),
        ("_actor/_actor.py", "from .._namespace import _registry", "only stores"),
        ("_new.py", "", "has no layer"),
    ],
)
def test_a_breach_is_found(tmp_path: Path, path: str, source: str, complaint: str) -> None:
    plant(tmp_path, {path: source})
    found = list(complaints(tmp_path))
    assert [text for text in found if complaint in text], found


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("_actor/_actor.py", "from .._stores._contract import Store"),
        ("_actor/_actor.py", "from .._protocol import values"),
        ("_actor/_actor.py", "from . import _mailbox"),
        ("_stores/_memory.py", "from . import _contract"),
        ("_stores/_redis/_bridge/_loop.py", "import asyncio, redis.asyncio"),
        ("_stores/_redis/_bridge/_loop.py", "async def f():\n    import trio_asyncio"),
        ("_stores/_redis/_bridge/_loop.py", "if TYPE_CHECKING:\n    import trio_asyncio"),
        ("_demo/__init__.py", "from .. import MemoryStore"),
        ("testing/__init__.py", f"from {PACKAGE} import MemoryStore\nfrom ._kit import x"),
    ],
)
def test_what_is_allowed_is_not_complained_about(tmp_path: Path, path: str, source: str) -> None:
    plant(tmp_path, {path: source})
    assert list(complaints(tmp_path)) == []


def test_a_cycle_is_found(tmp_path: Path) -> None:
    plant(tmp_path, {f"{LAX}.py": "from ._strict import a", f"{STRICT}.py": "from ._lax import b"})
    assert set(cycle(tmp_path)) == {"_counters._lax", "_counters._strict"}


def test_an_import_inside_a_function_makes_no_cycle(tmp_path: Path) -> None:
    later = {f"{LAX}.py": "from ._strict import a", f"{STRICT}.py": "def f(): from . import _lax"}
    plant(tmp_path, later)
    assert cycle(tmp_path) == []


LAX, STRICT = "_counters/_lax", "_counters/_strict"


def plant(root: Path, changes: Mapping[str, str]) -> None:
    """Write a little package that keeps every rule, but for `changes`."""
    files = dict.fromkeys(
        (
            "__init__.py",
            "_actor/__init__.py",
            "_actor/_actor.py",
            "_actor/_mailbox.py",
            "_instance/__init__.py",
            "_namespace/__init__.py",
            "_namespace/_registry.py",
            "_protocol/__init__.py",
            "_counters/__init__.py",
            f"{LAX}.py",
            "_stores/__init__.py",
            "_stores/_contract.py",
            "_stores/_memory.py",
            "_stores/_redis/__init__.py",
            "_stores/_redis/_bridge/__init__.py",
            "_stores/_redis/_bridge/_loop.py",
            "testing/__init__.py",
            "testing/_kit.py",
        ),
        "",
    )
    files["__init__.py"] = "from ._stores import MemoryStore"
    for path, source in (files | dict(changes)).items():
        (root / path).parent.mkdir(exist_ok=True, parents=True)
        (root / path).write_text(source, encoding="utf-8")
