"""The plan of the house, enforced: who may import whom, how long the core is, what a derivative may touch.

Everything is read from the source with `ast`, so a forbidden import inside a function counts like one at the top.
"""

from __future__ import annotations

import ast
import io
import os
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import tinygen
from tinygen.backends import KERNEL_NAMES

PACKAGE = Path(tinygen.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = [
    "sklearn",
    "scipy",
    "matplotlib",
    "PIL",
    "rich",
    "tyro",
    "safetensors",
    "torch",
    "pandas",
    "cupy",
    "setuptools",
]

# ---------------------------------------------------------------------------------- who may import whom

# "tinygen" is the package itself: the public names of the core
CORE = {"tinygen", "autograd", "backends", "keywords", "memory", "recording", "tape", "ops", "tensor"}
BUILDING = {"nn", "optim", "graph", "observe", "testing", "serialization"}
TRAINING = CORE | BUILDING | {"data", "metrics", "step"}
RECIPES = TRAINING | {"networks", "models", "studies", "training"}
RULES = {  # room: the rooms it may know (and itself)
    "tinygen": CORE,
    "backends": set(),
    "surface": set(),  # an empty base class with a stub for type checkers
    "keywords": set(),
    "memory": set(),
    "recording": set(),
    "tape": {"backends", "keywords", "memory", "recording", "surface"},
    "ops": {"backends", "memory", "recording", "tape"},
    "tensor": {"backends", "memory", "recording", "tape", "ops"},
    "autograd": {"backends", "memory", "recording", "tape", "ops"},
    "nn": CORE,
    "optim": CORE | {"nn"},
    "graph": CORE | {"nn", "optim"},
    "observe": CORE,
    "testing": CORE,
    "serialization": CORE,
    "data": CORE,
    "metrics": CORE,
    "step": CORE | {"nn"},
    "networks": CORE | {"nn"},
    "models": CORE | {"nn", "optim", "step"},  # networks are handed in
    "studies": TRAINING,  # any Step or module, no model by name
    "training": TRAINING,
    "recipes": RECIPES,
    "doctor": CORE | {"testing"},
    "options": set(),
    "cli": RECIPES | {"recipes", "doctor", "options"},
    "__main__": {"cli"},
    "errors": set(),
    "free_memory": set(),
}
for _rooms in RULES.values():
    _rooms |= {"errors", "free_memory"}  # known to all
EXTERNAL = {  # packages that only these files may import, and only inside functions
    "cupy": {"backends/cuda/__init__.py", "graph.py"},
    "torch": set(),
    "pandas": set(),
}


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return "tinygen" if first == "__init__.py" else first.removesuffix(".py")


def imports(path: Path, tree: ast.Module | None = None):
    """(module, line, lazy) for every import; relative ones resolved, and `tg.nn` counted as an import of tinygen.nn."""
    tree = tree or ast.parse(path.read_text())
    package = ("tinygen", *path.relative_to(PACKAGE).parts[:-1])
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) for n in ast.walk(f)}
    for block in ast.walk(tree):  # what only type checkers read is never loaded
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test):
            inside.update(id(n) for n in ast.walk(block))
    aliases = set()
    for node in ast.walk(tree):
        lazy = id(node) in inside
        if isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno, lazy
                if name.name == "tinygen":
                    aliases.add(name.asname or name.name)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            for name in node.names:  # `from . import x` may name a module; `from .a import x` means a
                whole = node.module is None or module == "tinygen"
                yield f"{module}.{name.name}" if whole else module, node.lineno, lazy
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases:
            yield f"tinygen.{node.attr}", node.lineno, id(node) in inside


def test_every_file_has_a_room():
    assert {room_of(f) for f in FILES} <= set(RULES)


def strangers(path: Path, tree: ast.Module | None = None) -> list[str]:
    """The imports of a file that its room may not have; `tree`: what is read in its place."""
    room = room_of(path)
    wrong = []
    for module, line, _ in imports(path, tree):
        parts = module.split(".")
        if parts[0] != "tinygen":
            continue
        other = parts[1] if len(parts) > 1 and parts[1] in RULES else "tinygen"
        if parts == ["tinygen", "_cpu"]:  # the C++ extension is part of the backends
            other = "backends"
        if other != room and other not in RULES[room]:
            wrong.append(f"line {line}: {room} may not know {other} ({module})")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_rooms_know_only_the_rooms_below(path):
    wrong = strangers(path)
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("models/gan.py", "from tinygen.networks.dcgan import DCGenerator"),
        ("models/gan.py", "from ..networks.dcgan import DCGenerator"),
        ("models/gan.py", "def f():\n    import tinygen as tg\n    return tg.training"),
        ("networks/mlp.py", "from tinygen import optim"),
        ("training/run.py", "from tinygen.models import GANStep"),
        ("studies/latents.py", "from tinygen.recipes import find"),
        ("step.py", "from .training import fit"),
        ("errors.py", "import tinygen.tape"),
    ],
)
def test_a_planted_import_from_above_is_found(file, line):
    assert strangers(PACKAGE / file, ast.parse(line))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_where_they_are_used(path):
    name = path.relative_to(PACKAGE).as_posix()
    for module, line, lazy in imports(path):
        top = module.split(".")[0]
        if top in EXTERNAL:
            assert name in EXTERNAL[top], f"{name}:{line} imports {top}"
        if top in HEAVY:
            assert lazy, f"{name}:{line} imports {top} at module level; do it in the function that needs it"
            if room_of(path) in CORE - {"backends"}:
                assert top == "scipy", f"{name}:{line}: the core needs NumPy alone"


def test_backends_never_see_a_tensor():
    for path in (PACKAGE / "backends").rglob("*.py"):
        names = {n.id for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Name)}
        assert "Tensor" not in names, path.name


def loaded_after(program: str) -> set[str]:
    code = f"import sys\n{program}\nprint(*{{m.split('.')[0] for m in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def test_import_tinygen_loads_numpy_alone():
    before = loaded_after("import numpy")
    after = loaded_after("import tinygen") - before
    assert not after & set(HEAVY), sorted(after & set(HEAVY))
    others = {m for m in after if m not in sys.stdlib_module_names and not m.startswith("_")} - {"tinygen"}
    assert not others, others


def test_a_training_step_loads_numpy_alone():
    program = """
import tinygen as tg
from tinygen import nn
model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2))
optimizer = tg.optim.Adam(model.parameters())
loss = nn.functional.cross_entropy(model(tg.randn(3, 1, 4, 4)), tg.tensor([0, 1, 0]))
loss.backward()
optimizer.step()
"""
    assert not loaded_after(program) & set(HEAVY)


def test_without_its_extension_the_package_computes_with_numpy(tmp_path):
    """As after an install on a machine that has no compiler."""
    shutil.copytree(PACKAGE, tmp_path / "tinygen", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    # -S: an editable install would otherwise lend its extension to the copy.
    libraries = os.pathsep.join([str(tmp_path), *sys.path])
    code = "import tinygen as tg; print(tg.__file__); print(tg.ones(2).device.kernels.name)"
    env = {k: v for k, v in os.environ.items() if k != "TINYGEN_CPU"} | {"PYTHONPATH": libraries}
    command = [sys.executable, "-S", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == [str(tmp_path / "tinygen" / "__init__.py"), "reference"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="tinygen"):
        tinygen.no_such_thing


# ---------------------------------------------------------------------------------- the size of the core

CORE_FILES, BUDGET, WIDTH, DENSITY = ("tape.py", "tensor.py", "ops/conv.py"), 750, 100, 11


def docstring_lines(source: str) -> set[int]:
    """The numbers of the lines that docstrings fill."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            text = node.body[0]
            docstrings.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return docstrings


def code_lines(source: str) -> int:
    """Lines of code: blank lines, comments, docstrings not counted; a line wider than WIDTH counts as the two it is."""
    counted: set[int] = set()
    quiet = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in quiet:
            counted.update(range(token.start[0], token.end[0] + 1))
    lines = source.splitlines()
    return sum(-(-len(lines[n - 1].split("  # ")[0]) // WIDTH) for n in counted - docstring_lines(source))


def density(sources: list[str]) -> float:
    """Tokens a line, docstrings not counted, over the lines that hold any: a budget of lines alone buys width."""
    words = {tokenize.OP, tokenize.NAME, tokenize.NUMBER, tokenize.STRING}
    tokens, lines = 0, 0
    for source in sources:
        docstrings = docstring_lines(source)
        at = [t.start[0] for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type in words]
        at = [line for line in at if line not in docstrings]
        tokens, lines = tokens + len(at), lines + len(set(at))
    return tokens / max(1, lines)


def test_the_counter_counts():
    source = (
        '"""Doc\nstring."""\n\n# comment\nx = 1  # why\n\n\ndef f():\n    """Doc."""\n    return (\n        x\n    )\n'
    )
    assert code_lines(source) == 5
    assert code_lines("x = " + " + ".join(["1"] * 40) + "\n") == 2
    assert code_lines('x = """one\ntwo"""\n') == 2
    assert density([source]) == (3 + 5 + 2 + 1 + 1) / 5  # x = 1, def f():, return (, x, )
    assert density(["# nothing\n"]) == 0 and density(["x = 1\n", '"""Doc."""\ny = f(x)\n']) == (3 + 6) / 2


def test_the_core_stays_within_its_budget(capsys):
    counts = {name: code_lines((PACKAGE / name).read_text()) for name in CORE_FILES}
    total = sum(counts.values())
    dense = density([(PACKAGE / name).read_text() for name in CORE_FILES])
    everything = sum(code_lines(f.read_text()) for f in FILES)
    with capsys.disabled():
        print(f"\ncore: {' + '.join(f'{n} {c}' for n, c in counts.items())} = {total} lines of code, budget {BUDGET}")
        print(f"core: {dense:.2f} tokens a line, at most {DENSITY}")
        print(f"package: {everything} lines of code in {len(FILES)} files")
    assert total <= BUDGET and dense <= DENSITY


@pytest.mark.parametrize("room", ["networks", "models", "studies"])
def test_what_is_read_like_a_slide_is_not_dense(room, capsys):
    sources = [f.read_text() for f in sorted((PACKAGE / room).rglob("*.py"))]
    with capsys.disabled():
        print(f"\n{room}: {density(sources):.2f} tokens a line in {len(sources)} files, at most {DENSITY}")
    assert density(sources) <= DENSITY


# ---------------------------------------------------------------------------------- derivatives are made of ops

FORBIDDEN = {"array", "data", "kernels", "numpy", "item", "tolist", "detach"}
HARMLESS = {"shape", "ndim", "dtype", "size", "itemsize", "xp"}  # facts about an array; constants of xp (ones, eye)


def derivatives(tree: ast.Module):
    """(name, node) of every VJP: `op.vjp("x")(lambda ...)`, and functions decorated with `@op.vjp("x")`.

    `op.outer_vjp(inner)` registers one too.
    """

    def registers(node):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            return False
        return node.func.attr in ("vjp", "outer_vjp")

    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and registers(node.func):
            yield f"{ast.unparse(node.func)}", node.args[0]
        elif isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if registers(decorator):
                    yield ast.unparse(decorator), node


def private_functions(tree: ast.Module) -> dict[str, ast.FunctionDef]:
    """What a derivative may call besides ops: the module's own helpers. Public functions are what users call as ops."""
    plain = [f for f in tree.body if isinstance(f, ast.FunctionDef) and not f.decorator_list]
    return {f.name: f for f in plain if f.name.startswith("_")}


def touches(node: ast.AST, functions: dict, kernels: set, seen: set):
    """What a derivative (or a private function that it calls) reads that is not an op's business."""
    attributes = [n for n in ast.walk(node) if isinstance(n, ast.Attribute)]
    harmless = {id(n.value) for n in attributes if n.attr in HARMLESS}
    for n in attributes:
        if n.attr in FORBIDDEN and id(n) not in harmless:
            yield f"line {n.lineno}: .{n.attr}"
        if isinstance(n.value, ast.Name) and n.value.id == "k" and n.attr in kernels:
            yield f"line {n.lineno}: the kernel {n.attr}"
    for n in ast.walk(node):
        if isinstance(n, ast.Name) and n.id in functions and n.id not in seen:
            seen.add(n.id)
            yield from touches(functions[n.id], functions, kernels, seen)


def test_derivatives_are_written_in_ops():
    count = 0
    for path in [PACKAGE / "tape.py", *sorted((PACKAGE / "ops").rglob("*.py"))]:
        tree = ast.parse(path.read_text())
        helpers = private_functions(tree)
        for name, node in derivatives(tree):
            count += 1
            wrong = list(touches(node, helpers, set(KERNEL_NAMES), set()))
            assert not wrong, f"{path.name}, {name}: a VJP body uses ops only, it touches {wrong}"
    assert count > 60, "the reader no longer finds the derivatives"


def test_the_reader_of_derivatives_finds_a_planted_fault():
    for planted in (
        'f.vjp("x")(lambda g, x: g * x.array)',
        'f.vjp("x")(lambda g, x: _helper(g))\ndef _helper(g):\n    return g.data',
        '@f.vjp("x")\ndef _(g, k):\n    return k.conv(g)',
        "f.outer_vjp(h)(lambda g, out: g * out.array)",
    ):
        tree = ast.parse(planted)
        helpers = private_functions(tree)
        assert [list(touches(n, helpers, set(KERNEL_NAMES), set())) for _, n in derivatives(tree)] != [[]]
    allowed = ast.parse('f.vjp("x")(lambda g, x: g.reshape(x.array.shape))')
    assert [list(touches(n, {}, set(KERNEL_NAMES), set())) for _, n in derivatives(allowed)] == [[]]


# ---------------------------------------------------------------------------------- manners


def test_no_rooms_without_a_purpose():
    root = PACKAGE.parent
    folders = (PACKAGE, root / "tests", root / "examples", root / "benchmarks")
    names = {p.name for folder in folders for p in folder.rglob("*.py")}
    assert not names & {"utils.py", "helpers.py", "common.py", "core.py", "misc.py", "util.py"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_module_says_what_it_is(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, "a module begins with a docstring"
    assert len(docstring.splitlines()) <= 20, "a module's docstring is a tutorial of at most 15 lines, not a manual"


def test_public_ops_have_docstrings():
    modules = [m for n, m in sys.modules.items() if n.startswith("tinygen.ops.")]
    public = [(m, n) for m in modules for n in getattr(m, "__all__", [])]
    missing = [f"{m.__name__}.{n}" for m, n in public if not (getattr(m, n).__doc__ or "").strip()]
    assert not missing, missing


def test_tests_ask_for_torch_and_are_skipped_without_it():
    """torch is no part of the extra `test`: a bare import fails for whoever follows the README."""
    bare = []
    for path in Path(__file__).parent.rglob("*.py"):
        text = path.read_text()
        whole = '\ntorch = pytest.importorskip("torch")\n' in text  # then the whole file is skipped
        for node in ast.walk(ast.parse("" if whole else text)):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            bare += [f"{path.name}:{node.lineno}" for name in names if name.partition(".")[0] == "torch"]
    assert not bare, f"{', '.join(bare)}: write torch = pytest.importorskip('torch')"
