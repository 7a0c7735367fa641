"""No file that is read can run or fetch anything: what could is named here, with its reason."""

from __future__ import annotations

import ast
from pathlib import Path

import asrprune

PACKAGE = Path(asrprune.__file__).parent
STARTS_PROCESSES = {
    "core/processes.py": "workers, of this program",
    "core/progress.py": "asks whether this is a worker",
    "exchange/exporters/llama_cpp.py": "llama.cpp, which ends the process that it stops in",
    "lm/engines/native.py": "the C++ compiler, on our own source",
    "provenance.py": "git describe and status of our own folder",
    "wer/form.py": "the command of --filter, which the user typed",
}
USES_A_SHELL = {"wer/form.py"}
UNPICKLES = {"core/spool.py": "what this process put into files that have no name"}
FORBIDDEN_MODULES = {"marshal", "shelve", "joblib", "dill", "cloudpickle", "runpy", "yaml"} | {
    "urllib",
    "requests",
    "http",
    "socket",
    "smart_open",
}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "os.system", "os.popen"} | {
    f"pickle.{name}" for name in ("load", "loads", "Unpickler")
}
PLAIN_ONLY = {"torch.load": ("weights_only", True), "np.load": ("allow_pickle", False)}


def _calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(one.func), one) for one in ast.walk(tree) if isinstance(one, ast.Call)]


def _imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for one in ast.walk(tree):
        if isinstance(one, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in one.names}
        elif isinstance(one, ast.ImportFrom) and one.module:
            found.add(one.module.partition(".")[0])
    return found


def _keywords(call: ast.Call) -> dict[str, object]:
    return {
        one.arg: one.value.value
        for one in call.keywords
        if one.arg and isinstance(one.value, ast.Constant)
    }


def problems(name: str, text: str) -> list[str]:
    """What in a module's text could run data."""
    tree = ast.parse(text)
    imports = _imports(tree)
    found = [f"imports {module}" for module in sorted(imports & FORBIDDEN_MODULES)]
    if imports & {"subprocess", "multiprocessing", "pty"} and name not in STARTS_PROCESSES:
        found.append("starts processes")
    for called, call in _calls(tree):
        keywords = _keywords(call)
        if called in FORBIDDEN_CALLS and not (called == "pickle.loads" and name in UNPICKLES):
            found.append(f"calls {called}")
        if called in PLAIN_ONLY:
            key, value = PLAIN_ONLY[called]
            if keywords.get(key) is not value:
                found.append(f"{called} without {key}={value}")
        if keywords.get("shell") is True and name not in USES_A_SHELL:
            found.append("uses a shell")
    return found


def test_no_module_runs_what_it_reads() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in PACKAGE.rglob("*.py")}
    assert set(STARTS_PROCESSES) <= set(modules)
    found = {
        name: what
        for name, path in modules.items()
        if (what := problems(name, path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_the_walk_sees_each() -> None:
    for text in (
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "pickle.load(stream)",
        "eval(text)",
        "run(text, shell=True)",
        "import subprocess",
        "import yaml",
        "from urllib.request import urlopen",
    ):
        assert problems("lm/any.py", text), text
    assert not problems("lm/any.py", "torch.load(path, weights_only=True); model.eval()")
