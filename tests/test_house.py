"""The rules of the house, held by the code itself: who imports whom, what is public, what is documented."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import runpy
from pathlib import Path

import pytest

import deepseek_ocr_mcp
from deepseek_ocr_mcp.config import Settings
from deepseek_ocr_mcp.engines import KNOWN
from deepseek_ocr_mcp.errors import OcrError, Timeout, from_dict
from deepseek_ocr_mcp.modes import DEFAULT_MODE, DEFAULT_RESOLUTION, MODES, RESOLUTIONS

ROOT = Path(__file__).parents[1]
SOURCE = Path(deepseek_ocr_mcp.__file__).parent
MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages([str(SOURCE)], "deepseek_ocr_mcp.")
    if name not in ("deepseek_ocr_mcp.__main__",)
)

GROUND = {"errors", "logs", "modes", "models", "config", "observer", "caller", "install", "text", "export_formats"}
MAY_IMPORT: dict[str, set[str]] = {
    "caller": set(),
    "errors": set(),
    "export_formats": {"modes"},
    "install": set(),
    "text": set(),
    "logs": {"text"},
    "modes": set(),
    "models": {"modes"},
    "config": {"errors"},
    "observer": {"errors", "logs", "models"},
    "layout": {"layout"},
    "worker": {"worker", "errors", "logs", "text", ""},
    "gpu": {"gpu", *GROUND},
    "engines": {
        "",
        "engines",
        "gpu.causes",
        "layout",
        "worker.protocol",
        "worker.confine",
        "errors",
        "install",
        "logs",
        "modes",
    },
    "decoder": {"", "decoder", "engines.base", "layout", "errors", "export_formats", "logs", "modes"},
    "documents": {
        "",
        "documents",
        "worker",
        "engines.base",
        "caller",
        "config",
        "errors",
        "export_formats",
        "logs",
        "text",
    },
    "lifecycle": {"lifecycle", "worker", "gpu", "engines", *GROUND},
    "service": {"service", "lifecycle", "documents", "engines", "layout", "gpu", "worker.client", *GROUND},
    "edges": {"edges", "service", "", *GROUND},
    "app": {"app", "edges", "service", "lifecycle", "documents", "engines", "worker", "gpu", *GROUND},
    "batch": {"batch", "app", "service", "gpu", "documents", "engines", "", *GROUND},
    "cli": {"cli", "batch", "app", "service", "documents", "engines", "", *GROUND},
}
CHILD_ONLY = (
    "decoder",
    "engines.rapidocr",
    "engines.tesseract",
    "engines.deepseek",
    "engines.sheet",
    "engines.rules",
    "engines.host",
)
"""Packages and modules that only a child process imports: they hold everything that parses or that is heavy."""

HEAVY = {
    "torch",
    "transformers",
    "onnxruntime",
    "cv2",
    "numpy",
    "rapidocr",
    "PIL",
    "pypdfium2",
    "pillow_heif",
    "pynvml",
    "docx",
    "openai",
    "lxml",
    "markdown_it",
    "xlsxwriter",
    "ray",
    "pyarrow",
    "fsspec",
    "pandas",
}


def imports(path: Path, *, whole: bool = False) -> list[tuple[str, bool]]:
    """The names that a module imports, dotted from the package's root if they are ours; and whether at module level.

    Args:
        whole: add the imported names themselves, which may be modules.
    """
    package = ["deepseek_ocr_mcp", *path.relative_to(SOURCE).parts[:-1]]
    tree = ast.parse(path.read_text())
    guards = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)]
    checked = {id(node) for guard in guards for node in ast.walk(guard)}
    top = {id(node) for node in tree.body}
    found = []
    for node in ast.walk(tree):
        if id(node) in checked:
            continue
        if isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            name = ".".join(part for part in (base, node.module or "") if part)
            found.append((name, id(node) in top))
            if whole:
                found += [(f"{name}.{alias.name}", id(node) in top) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, id(node) in top) for alias in node.names]
    return found


def by_kind(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions: the order that ruff keeps."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


def rule_for(module: str) -> set[str]:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        if (name := ".".join(parts[:length])) in MAY_IMPORT:
            return MAY_IMPORT[name]
    raise AssertionError(f"{module} has no rule")


def is_child_only(module: str) -> bool:
    return any(module == rule or module.startswith(f"{rule}.") for rule in CHILD_ONLY)


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


def imported_modules() -> dict[str, set[str]]:
    """Our modules, each with those of ours that it imports when it is imported itself."""
    files = {module_of(path): path for path in sorted(SOURCE.rglob("*.py"))}
    graph = {}
    for module, path in files.items():
        names = {name.removeprefix("deepseek_ocr_mcp").lstrip(".") for name, top in imports(path, whole=True) if top}
        graph[module] = {name for name in names if name in files} - {module}
    return graph


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_dependencies_run_one_way(path: Path) -> None:
    module = module_of(path)
    if module in ("__init__", "__main__"):
        return
    allowed = rule_for(module)
    for name, top_level in imports(path):
        if top_level and not is_child_only(module):
            assert name.split(".")[0] not in HEAVY, f"{module} imports {name} before it is needed"
        if name.startswith("deepseek_ocr_mcp"):
            ours = name.removeprefix("deepseek_ocr_mcp").lstrip(".")
            assert any(ours == rule or (rule and ours.startswith(rule + ".")) for rule in allowed), (
                f"{module} may not import {ours or 'the package root'}"
            )


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_a_child_imports_what_parses_a_document_or_runs_a_model(path: Path) -> None:
    if is_child_only(module_of(path)):
        return
    for name, _ in imports(path, whole=True):
        ours = name.removeprefix("deepseek_ocr_mcp").lstrip(".")
        assert not (name.startswith("deepseek_ocr_mcp") and is_child_only(ours)), f"{module_of(path)} imports {ours}"


def test_no_two_classes_share_a_name() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name.lstrip("_"), []).append(module_of(path))
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = imported_modules()
    while leaves := [module for module, needs in graph.items() if not needs & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert graph == {}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_guarantees(name: str) -> None:
    doc = importlib.import_module(name).__doc__
    assert doc
    assert doc.strip()


@pytest.mark.parametrize(
    "name",
    [name for name in MODULES if name.endswith(".engines") or not hasattr(importlib.import_module(name), "__path__")],
)
def test_the_public_surface_is_all_sorted_and_complete(name: str) -> None:
    module = importlib.import_module(name)
    public = {
        member
        for member, value in vars(module).items()
        if not member.startswith("_")
        and getattr(value, "__module__", None) == name
        and (isinstance(value, type) or callable(value))
    }
    assert list(module.__all__) == sorted(module.__all__, key=by_kind)
    assert public <= set(module.__all__)
    for member in module.__all__:
        assert getattr(module, member) is not None


def test_the_settings_are_documented_as_they_are() -> None:
    written = runpy.run_path(str(ROOT / "scripts" / "configuration.py"))["document"]()
    assert (ROOT / "docs" / "configuration.md").read_text() == written, "run scripts/configuration.py"


def test_nothing_but_the_settings_reads_the_environment() -> None:
    readers = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if "os.environ" in path.read_text() or "getenv" in path.read_text()
    }
    # A child is given a part of the environment, the lifecycle asks which cards are visible, the engines are told their
    # threads and their weights that way, the CLI takes a token for a server that is not its own, and the hub has
    # variables of its own; a program that an engine starts gets a bound on its threads; Ray is told by variables
    # only to listen on loopback and to report nothing.
    assert readers <= {
        "config.py",
        "cli/clients.py",
        "cli/read.py",
        "cli/server.py",
        "batch/cluster.py",
        "worker/environment.py",
        "worker/main.py",
        "lifecycle/build.py",
        "lifecycle/memory.py",
        "lifecycle/pool.py",
        "engines/cores.py",
        "engines/precision.py",
        "engines/host.py",
        "engines/hub.py",
        "engines/rapidocr/__init__.py",
        "engines/tesseract/program.py",
        "engines/deepseek/engine.py",
    }


def test_every_error_has_its_own_code_and_survives_the_pipe() -> None:
    classes = [OcrError, *OcrError.__subclasses__()]
    assert len({cls.code for cls in classes}) == len(classes)
    for cls in classes:
        copy = from_dict(cls("What happened.", remedy="What to do.").to_dict())
        assert (type(copy), copy.message, copy.remedy) == (cls, "What happened.", "What to do.")
        assert 400 <= cls.http_status <= 599
        assert 0 < cls.exit_code < 128
    assert type(from_dict({"code": "of the future"})) is OcrError
    assert str(Timeout("It hung.", remedy="Wait.")) == "It hung. Wait."


def test_the_seven_modes_and_what_they_need() -> None:
    assert list(MODES) == ["document", "ocr", "free", "figure", "describe", "find", "freeform"]
    assert {mode.needs for mode in MODES.values()} == {"", "find_term", "custom_prompt"}
    assert DEFAULT_MODE in MODES
    assert DEFAULT_RESOLUTION in RESOLUTIONS
    for spec in KNOWN.values():
        assert spec.modes <= set(MODES)


def test_settings_refuse_what_cannot_be_meant() -> None:
    for wrong in (
        {"port": 70_000},
        {"ocr_max_file_mb": 0},
        {"gpu_idle_timeout": -2},
        {"ocr_log_level": "loud"},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Settings(**wrong)
