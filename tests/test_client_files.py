"""What goes into clients' hands: configurations, the bundle, the registry's entry, the wheel. Each is started."""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jsonschema
import pytest
import yaml
from mcp import Client, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client

import deepseek_ocr_mcp
from clients.rig import MODULES, find_node, install_modules
from deepseek_ocr_mcp.cli.clients import CLIENTS, entry_for_program, entry_for_server
from deepseek_ocr_mcp.config import Settings
from support import BOUND_S, HttpServer, Servers, as_base64, facts, png, said

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
RECEIPT = EXAMPLES / "pages" / "receipt.png"
PROGRAM = Path(sys.executable).with_name("deepseek-ocr-mcp")
TOKEN = "a-token-for-tests-only"
TOOLS = ["ocr_image", "ocr_to_files", "gpu_status", "gpu_offload", "gpu_release"]
FILES = {
    "claude-desktop": "claude_desktop_config.json",
    "claude-code": "claude_code.sh",
    "cursor": "cursor_mcp.json",
    "vscode": "vscode_mcp.json",
    "codex": "codex_config.toml",
    "windsurf": "windsurf_mcp_config.json",
    "zed": "zed_settings.json",
    "lm-studio": "lm_studio_mcp.json",
    "open-webui": "open_webui.txt",
    "goose": "goose_config.yaml",
    "gemini-cli": "gemini_settings.json",
}
JSON_KEYS = {"vscode": "servers", "zed": "context_servers"}
PLACES = ("${env:OCR_AUTH_TOKEN}", "${input:ocr-token}", "${OCR_AUTH_TOKEN}", "$OCR_AUTH_TOKEN",
          "<OCR_AUTH_TOKEN of the server>")  # fmt: skip
"""The places for the token in the entries of the clients."""


def entry(client: str, text: str) -> dict[str, Any]:
    """The server as this client reads it."""
    match client:
        case "codex":
            found = tomllib.loads(text)["mcp_servers"]
        case "goose":
            found = yaml.safe_load(text)["extensions"]
        case "claude-code":
            return _claude_code(shlex.split(text))
        case "open-webui":
            *command, _, url, _, key = text.splitlines()
            words = shlex.split(" ".join(command))
            fields = {"name": "deepseek-ocr", "url": url.removeprefix("URL: ")}
            fields["headers"] = {"Authorization": f"Bearer {key.removeprefix('Key: ')}"}
            return fields | {"command": words[0], "args": words[1:]} if words else fields
        case _:
            found = json.loads(text)[JSON_KEYS.get(client, "mcpServers")]
    ((name, fields),) = found.items()
    names = {"cmd": "command", "uri": "url", "serverUrl": "url", "httpUrl": "url"}
    return {"name": name, **{names.get(key, key): value for key, value in fields.items()}}


def _claude_code(words: list[str]) -> dict[str, Any]:
    assert words[:3] == ["claude", "mcp", "add"]
    if "--" in words:
        name, dashes, *rest = words[3:]
        assert dashes == "--"
        return {"name": name, "command": rest[0], "args": rest[1:]}
    assert words[3:5] == ["--transport", "http"]
    assert words[7] == "--header"
    header, _, value = words[8].partition(": ")
    return {"name": words[5], "url": words[6], "headers": {header: value}}


async def serves(command: list[str], folder: Path, **environment: str) -> list[str]:
    """Start it as a desktop client does, in a folder of its own, with a bare environment; the names of its tools."""
    started = StdioServerParameters(
        command=command[0], args=command[1:], cwd=str(folder), env={"PATH": "/usr/bin:/bin", **environment}
    )
    with anyio.fail_after(120):
        async with Client(stdio_client(started)) as client:
            return [tool.name for tool in (await client.list_tools()).tools]


@pytest.mark.parametrize("client", FILES)
def test_an_example_is_what_the_program_prints(client: str) -> None:
    example = (EXAMPLES / FILES[client]).read_text()
    assert example == entry_for_program(client).replace(str(PROGRAM), "deepseek-ocr-mcp") + "\n"
    found = entry(client, example)
    assert found["name"] == "deepseek-ocr"
    assert found["command"] == "deepseek-ocr-mcp"
    assert found["args"] == (["serve", "--transport", "http"] if client == "open-webui" else [])


def test_every_client_has_its_example_and_every_example_its_line() -> None:
    rows = [line for line in (EXAMPLES / "README.md").read_text().splitlines() if line.startswith("|")]
    assert set(FILES) == set(CLIENTS)
    for client, file in FILES.items():
        (row,) = [row for row in rows if f"| `{client}` |" in row]
        assert row.endswith(f"| [{file}]({file}) |")


@pytest.fixture
def server(serve: Servers) -> HttpServer:
    return serve(OCR_AUTH_TOKEN=TOKEN)


@pytest.mark.anyio
@pytest.mark.parametrize("client", FILES)
async def test_a_server_elsewhere_is_reached_as_the_program_prints_it(client: str, server: HttpServer) -> None:
    text = entry_for_server(client, server.url)
    assert TOKEN not in text
    found = entry(client, text)
    if client == "claude-desktop":
        assert found["args"][:3] == ["-y", "mcp-remote", server.url]
        bearer = found["args"][-1].replace("Authorization:${AUTH_HEADER}", found["env"]["AUTH_HEADER"])
    else:
        assert found["url"] == server.url
        variable = found.get("bearer_token_env_var")
        bearer = f"Bearer ${variable}" if variable else found["headers"]["Authorization"]
    for place in PLACES:
        bearer = bearer.replace(place, TOKEN)
    assert bearer == f"Bearer {TOKEN}"
    async with (
        httpx2.AsyncClient(headers={"Authorization": bearer}, timeout=60) as http,
        Client(streamable_http_client(server.url, http_client=http)) as session,
    ):
        assert facts(await session.call_tool("ocr_image", {"image": as_base64(png())}))["page_count"] == 1


# -- the bundle for desktop clients


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built, validated and packed by mcpb."""
    install_modules()
    out = tmp_path_factory.mktemp("bundle")
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "bundle"), str(out)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    path = Path(done.stdout.strip())
    assert path == out / f"deepseek-ocr-mcp-{deepseek_ocr_mcp.__version__}.mcpb"
    return path


@pytest.fixture(scope="module")
def unpacked(bundle: Path) -> Path:
    folder = bundle.with_suffix("")
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(folder)
    return folder


def test_the_bundle_is_small_says_what_it_is_and_holds_nothing_else(unpacked: Path, bundle: Path) -> None:
    assert bundle.stat().st_size < 9_000_000, "of which the integer model takes 6.6 MB"
    with zipfile.ZipFile(bundle) as archive:
        names = archive.namelist()
    assert {name.split("/")[0] for name in names} == {
        "LICENSE", "README.md", "icon.png", "manifest.json", "pyproject.toml", "src",
    }  # fmt: skip
    manifest = json.loads((unpacked / "manifest.json").read_text())
    assert manifest["version"] == deepseek_ocr_mcp.__version__
    assert [tool["name"] for tool in manifest["tools"]] == TOOLS
    assert (unpacked / manifest["server"]["entry_point"]).is_file()
    assert set(manifest["server"]["mcp_config"]["env"]) <= {name.upper() for name in Settings.model_fields}
    ours = {str(path.relative_to(ROOT)) for path in (ROOT / "src").rglob("*") if path.is_file()}
    packed = {name for name in names if name.startswith("src/") and not name.endswith("/")}
    assert packed == {name for name in ours if "__pycache__" not in name}


def pins_of_the_images() -> dict[str, str]:
    lines = (ROOT / "deploy" / "constraints-cpu.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_bundle_names_the_releases_that_were_tested_and_no_address(unpacked: Path) -> None:
    project = tomllib.loads((unpacked / "pyproject.toml").read_text())
    ours = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"] == {key: value for key, value in ours["project"].items() if "optional" not in key}
    assert "dependency-groups" not in project, "uv would lock them, too"
    named = [f"{name}=={release}" for name, release in pins_of_the_images().items()]
    systems = [f"sys_platform == '{system}'" for system in ("linux", "darwin", "win32")]
    pinned = {"constraint-dependencies": named, "build-constraint-dependencies": named, "environments": systems}
    assert project["tool"]["uv"] == pinned
    needed = {re.split(r"[^A-Za-z0-9_.-]", each)[0].lower() for each in ours["project"]["dependencies"]}
    assert needed <= pins_of_the_images().keys()
    assert not [line for line in named if "://" in line or "@" in line]


def as_the_client_starts_it(unpacked: Path, **chosen: Any) -> dict[str, Any] | None:
    """What mcpb's own code makes of the manifest and of what the user chose."""
    script = """
        import { getMcpConfigForManifest } from "MODULE";
        import { readFileSync } from "node:fs";
        const [folder, chosen] = process.argv.slice(2);
        const manifest = JSON.parse(readFileSync(folder + "/manifest.json", "utf8"));
        const config = await getMcpConfigForManifest({
          manifest, extensionPath: folder, systemDirs: { HOME: process.env.HOME },
          userConfig: JSON.parse(chosen), pathSeparator: "/",
        });
        console.log(JSON.stringify(config ?? null));
    """.replace("MODULE", str(MODULES / "@anthropic-ai/mcpb/dist/index.js"))
    file = unpacked.parent / "start.mjs"
    file.write_text(script)
    done = subprocess.run(
        [find_node(), str(file), str(unpacked), json.dumps(chosen)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] | None = json.loads(done.stdout)
    return found


@pytest.mark.anyio
async def test_the_bundle_starts_with_uv_and_reads_in_the_folders_that_were_chosen(
    unpacked: Path, tmp_path: Path
) -> None:
    """As a desktop client would: uv installs what it needs into the bundle's own environment."""
    readable, other = tmp_path / "My Scans", tmp_path / "other"
    for folder in (readable, other):
        folder.mkdir()
        shutil.copy(RECEIPT, folder)
    config = as_the_client_starts_it(unpacked, folders=[str(readable), str(tmp_path / "more")])
    assert config is not None
    assert config["env"] == {"OCR_ALLOW_URLS": "false"}
    assert "$" not in json.dumps(config)
    uv = Path(sys.executable).with_name("uv")
    assert config["command"] == "uv"
    inherited = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "SSL_", "HOME"))}
    started = StdioServerParameters(
        command=str(uv),
        args=config["args"],
        cwd=str(tmp_path),
        env={**inherited, "PATH": "/usr/bin:/bin", "UV_PYTHON": sys.executable, **config["env"]},
    )
    with anyio.fail_after(240):
        async with Client(stdio_client(started)) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
            assert client.server_info.version == deepseek_ocr_mcp.__version__
            read = await client.call_tool("ocr_image", {"image": str(readable / RECEIPT.name), "mode": "free"})
            assert "TOTAL" in said(read)
            refused = await client.call_tool("ocr_image", {"image": str(other / RECEIPT.name)})
            assert refused.is_error
    installed = [path.stem.rpartition("-") for path in (unpacked / ".venv").rglob("*.dist-info")]
    releases = {name.lower().replace("_", "-"): release for name, _, release in installed}
    pins = pins_of_the_images()
    assert len(releases) > 20
    assert {name: release for name, release in releases.items() if pins.get(name, release) != release} == {}


def test_without_a_folder_the_bundle_is_not_started(unpacked: Path) -> None:
    assert as_the_client_starts_it(unpacked, folders=[]) is None


@pytest.mark.parametrize("arguments", [["A", "B"], ["--allow-dir", "A", "B"], ["--allow-dir", "A", "--allow-dir", "B"]])
def test_folders_may_be_named_as_arguments_of_serve(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from deepseek_ocr_mcp.cli.parser import build_parser
    from deepseek_ocr_mcp.cli.shared import settings_from

    asked = build_parser().parse_args(["serve", *arguments])
    assert settings_from(asked).ocr_allowed_dirs == (os.path.realpath("A"), os.path.realpath("B"))


# -- the registry


def test_the_registrys_entry_fits_its_schema_and_tells_what_is_so() -> None:
    """The schema lies in skillsaw, which has the registry's own under its licence; the release is the one it names."""
    server = json.loads((ROOT / "server.json").read_text())
    release = re.search(r"/schemas/(\d{4}-\d\d-\d\d)/server\.schema\.json$", server["$schema"])
    assert release is not None
    package = f"skillsaw.schemas.mcp_registry.v{release[1].replace('-', '_')}"
    schema = json.loads((importlib.resources.files(package) / "server.schema.json").read_text())
    assert schema["$id"] == server["$schema"]
    jsonschema.validate(server, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**server, "description": "x" * 101}, schema)
    (package_entry,) = server["packages"]
    assert server["version"] == package_entry["version"] == deepseek_ocr_mcp.__version__
    assert package_entry["identifier"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["name"]
    for variable in package_entry["environmentVariables"]:
        field = Settings.model_fields[variable["name"].lower()]
        if "default" in variable:
            assert json.dumps(field.default).strip('"') == variable["default"]
    # By this line in the package's description the registry knows whose package it is.
    assert f"<!-- mcp-name: {server['name']} -->" in (ROOT / "README.md").read_text()


# -- wheel and sdist


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist, and the wheel that is built from it alone."""
    out = tmp_path_factory.mktemp("built")
    uv = str(Path(sys.executable).with_name("uv"))
    done = subprocess.run(
        [uv, "build", "--quiet", "--out-dir", str(out), str(ROOT)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_the_sdist_holds_what_belongs_to_the_project_and_the_wheel_the_package_only(built: Path) -> None:
    version = deepseek_ocr_mcp.__version__
    with tarfile.open(built / f"deepseek_ocr_mcp-{version}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in ("CHANGELOG.md", "Dockerfile.gpu", "deploy/compose.gpu.yml", "deploy/nginx/nginx.conf", "server.json",
                 "examples/vscode_mcp.json", "docs/deployment.md", "scripts/start_gpu.sh", "tests/support.py",
                 "packaging/mcpb/manifest.json"):  # fmt: skip
        assert name in names, name
    assert not [name for name in names if re.search(r"(^|/)(\.env|node_modules|\.venv|__pycache__|tls)(/|$)", name)]
    with zipfile.ZipFile(built / f"deepseek_ocr_mcp-{version}-py3-none-any.whl") as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = archive.read(f"deepseek_ocr_mcp-{version}.dist-info/METADATA").decode()
    source = ROOT / "src"
    ours = {str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()}
    assert packed == {name for name in ours if "__pycache__" not in name}
    assert "\nLicense-Expression: MIT AND Apache-2.0\n" in metadata


def test_the_wheel_is_installed_into_a_clean_environment_and_reads_a_page(built: Path, tmp_path: Path) -> None:
    """Nothing of this environment, of this source tree or of its settings is there."""
    uv = str(Path(sys.executable).with_name("uv"))
    environment = tmp_path / "environment"
    (wheel,) = built.glob("*.whl")
    for command in (
        [uv, "venv", "--quiet", "--python", sys.executable, str(environment)],
        [uv, "pip", "install", "--quiet", "--python", str(environment / "bin" / "python"), str(wheel)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    program = environment / "bin" / "deepseek-ocr-mcp"
    bare = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    run = {"capture_output": True, "text": True, "timeout": 120, "env": bare, "cwd": tmp_path}
    told = subprocess.run([program, "--version"], **run)  # type: ignore[call-overload]
    assert told.stdout == f"deepseek-ocr-mcp {deepseek_ocr_mcp.__version__}\n"
    read = subprocess.run([program, "ocr", RECEIPT, "--format", "text"], **run)  # type: ignore[call-overload]
    assert "TOTAL" in read.stdout, read.stderr
    assert subprocess.run([program, "doctor"], **run).returncode == 0  # type: ignore[call-overload]
    assert anyio.run(serves, [str(program)], tmp_path) == TOOLS
    with subprocess.Popen(
        [program, "serve", "--transport", "http", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=bare,
        cwd=tmp_path,
    ) as process:
        assert process.stderr is not None
        address = re.search(r"http://\S+(?=/mcp)", process.stderr.readline())
        assert address is not None
        page = httpx2.get(address[0] + "/", timeout=BOUND_S)
        process.terminate()
    assert page.status_code == 200
    assert "<html" in page.text


# -- the version


def test_the_version_stands_in_one_place_and_what_must_repeat_it_is_equal() -> None:
    assert runpy.run_path(str(ROOT / "scripts" / "bundle"))["version"]() == deepseek_ocr_mcp.__version__
    written = subprocess.run(
        ["git", "grep", "-lF", f'"{deepseek_ocr_mcp.__version__}"', "--", ":!tests", ":!benchmarks"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert set(written) <= {"src/deepseek_ocr_mcp/__init__.py", "server.json", "docs/http-api.md"}
