"""The pages that people read: their links lead somewhere, and their commands, settings and paths are real."""

from __future__ import annotations

import argparse
import re
import runpy
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic_settings import DotEnvSettingsSource

from deepseek_ocr_mcp.cli.parser import build_parser
from deepseek_ocr_mcp.config import Settings, load_settings
from deepseek_ocr_mcp.models import NoteCode
from deepseek_ocr_mcp.modes import TEXT_LAYERS

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "deepseek_ocr_mcp"
PAGES = sorted(
    page for folder in (".", "docs", "examples", "deploy", "findings") for page in (ROOT / folder).glob("*.md")
)
SETTINGS = {name.upper() for name in Settings.model_fields}
FOLDERS = ("src", "tests", "docs", "deploy", "scripts", "examples", "benchmarks", "packaging")
MADE_BY_THE_OPERATOR = ("deploy/.env", "deploy/tls")
OTHER_VARIABLES = {"OCR_ENV_FILE", "OCR_CA_FILE"}  # read before there are settings; read by a script
FLAGS_OF_OTHERS = {
    "--api-key", "--enable-sleep-mode", "--logits-processors", "--max-num-seqs", "--no-enable-prefix-caching",
    "--mm-processor-cache-gb",  # vLLM
    "--gpus", "--add-host", "--constraint", "--generate", "--cli", "--fd",  # Docker, pip, Ray, MCP Inspector, uvicorn
}  # fmt: skip

PARSER = build_parser()

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """The lines of the page's shell blocks; continued lines are joined."""
    blocks = re.findall(r"^( *)```sh\n(.*?)^\1```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [line.strip() for _, block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def spans(page: Path) -> list[str]:
    """The pieces of code inside the page's sentences."""
    return [span.strip() for span in re.findall(r"`([^`\n]+)`", prose(page))]


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the page's headings."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.append(name if name not in found else f"{name}-{found.count(name)}")
    return set(found)


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    raise AssertionError("the parser has no subcommands")


def calls(line: str) -> Iterator[list[str]]:
    """The arguments of each call of our program in a line of shell."""
    for match in re.finditer(r"(?:^|[\s/])deepseek-ocr-mcp ([a-z-].*)$", line):
        words = shlex.split(re.split(r"\s[|>&#;]|\s2>|\s—", match[1])[0])
        if words[0] in subcommands(PARSER) or words[0].startswith("-"):
            yield words


def accepts(words: list[str]) -> bool:
    try:
        PARSER.parse_args(words)
    except SystemExit as exc:
        return exc.code == 0
    return True


def test_the_pages_are_found() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/README.md", "docs/design.md", "examples/README.md"} <= {
        str(page.relative_to(ROOT)) for page in PAGES
    }


@each_page
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


@each_page
def test_every_setting_that_a_page_names_is_one(page: Path) -> None:
    deployed = re.findall(r"^#?(\w+)=", (ROOT / "deploy" / "env.example").read_text(), re.MULTILINE)
    known = SETTINGS | set(deployed) | OTHER_VARIABLES
    named = set(re.findall(r"\b(?:OCR|GPU)_[A-Z][A-Z_]*\b(?!_)", page.read_text("utf-8")))
    assert named <= known, named - known


@each_page
def test_every_command_of_a_shell_block_is_one_that_a_shell_and_our_program_understand(page: Path) -> None:
    found = commands(page)
    syntax = subprocess.run(["bash", "-n", "-c", "\n".join(found)], capture_output=True, text=True, timeout=60)
    assert syntax.returncode == 0, f"{page.name}: {syntax.stderr}"
    for line in found:
        for words in calls(line):
            assert accepts(words), f"{page.name}: {line}"


@each_page
def test_every_command_inside_a_sentence_is_one_that_our_program_understands(page: Path) -> None:
    for span in spans(page):
        if not (match := re.fullmatch(r"(?:\S+/)?deepseek-ocr-mcp ([a-z-]+)((?: .*)?)", span)):
            continue
        assert match[1] in {*subcommands(PARSER), "--version", "--help"}, f"{page.name}: {span}"
        if match[2] and "…" not in span:
            assert accepts(shlex.split(span)[1:]), f"{page.name}: {span}"


@each_page
def test_every_flag_inside_a_sentence_is_one_of_our_program_or_of_our_scripts(page: Path) -> None:
    ours = {
        option
        for parser in (PARSER, *subcommands(PARSER).values())
        for action in parser._actions
        for option in action.option_strings
    }
    scripts = " ".join(path.read_text("utf-8") for path in (ROOT / "scripts").iterdir() if path.is_file())
    ours |= set(re.findall(r"--[a-z][a-z-]+", scripts))
    ours |= {f for b in (ROOT / "benchmarks").glob("*.py") for f in re.findall(r'"(--[a-z][a-z-]+)"', b.read_text())}
    for span in spans(page):
        if match := re.match(r"(--[a-z][a-z-]+)(?:[ =].*)?$", span):
            assert match[1] in ours | FLAGS_OF_OTHERS, f"{page.name}: {span}"


@each_page
def test_every_path_of_this_repository_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    for path in re.findall(rf"(?<![\w./~-])((?:{'|'.join(FOLDERS)})/[\w./-]*[\w/])", text):
        if not path.startswith(MADE_BY_THE_OPERATOR):
            assert (ROOT / path).exists() or (SOURCE / path).exists(), f"{page.name}: {path}"


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/design.md"])
def test_every_module_that_the_pages_for_developers_name_is_there(name: str) -> None:
    for span in spans(ROOT / name):
        if re.fullmatch(r"[\w./-]+(?:\.py|\.js|\.md|/)", span):
            assert any((base / span).exists() for base in (ROOT, SOURCE, SOURCE / "edges" / "web")), span


def test_every_profile_of_compose_that_a_page_names_is_one() -> None:
    services = yaml.safe_load((ROOT / "deploy" / "compose.gpu.yml").read_text())["services"].values()
    profiles = {profile for service in services for profile in service["profiles"]}
    for page in PAGES:
        assert set(re.findall(r"--profile (\w+)", page.read_text("utf-8"))) <= profiles, page.name


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    for page in sorted((ROOT / "docs").glob("*.md")):
        if page.name != "README.md":
            assert f"({page.name}" in index, page.name


def test_every_setting_is_found_by_its_task() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    assert {name for name in SETTINGS if f"`{name}" not in index} == set()


def test_every_code_of_a_note_is_explained() -> None:
    explained = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "tools.md").read_text("utf-8"), re.MULTILINE))
    assert set(get_args(NoteCode)) == explained - {*TEXT_LAYERS, "text_layer"}


def test_the_table_of_settings_and_the_example_are_written_from_the_settings() -> None:
    for path, text in runpy.run_path(str(ROOT / "scripts" / "configuration.py"))["FILES"].items():
        assert path.read_text("utf-8") == text(), f"{path.name}: run scripts/configuration.py"


def test_the_example_of_settings_holds_every_setting_with_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    lines = (ROOT / ".env.example").read_text("utf-8").splitlines()
    used = [line.removeprefix("#") for line in lines if re.match(r"#[A-Z_]+=", line)]
    file = tmp_path / "all.env"
    file.write_text("\n".join(used))
    assert {line.partition("=")[0] for line in used} == SETTINGS
    assert set(DotEnvSettingsSource(Settings, env_file=file)()) == set(Settings.model_fields)
    assert load_settings(str(file)) == load_settings()


def test_no_file_advises_to_install_this_project_from_an_index() -> None:
    by_name = re.compile(r"""(?:pip|uvx?|pipx)\b.* ["']?deepseek-ocr-mcp\b""")
    kinds = {"", ".py", ".md", ".sh", ".json", ".js", ".toml", ".yml", ".service"}
    files = [*ROOT.glob("*"), *(path for name in FOLDERS if name != "tests" for path in (ROOT / name).rglob("*"))]
    for path in files:
        if path.is_file() and path.suffix in kinds:
            for line in path.read_text("utf-8", errors="replace").splitlines():
                assert not by_name.search(line) or "--no-index" in line, f"{path.relative_to(ROOT)}: {line.strip()}"
