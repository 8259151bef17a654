"""What every test shares: the event loop, children that find the fault engines, a watch over what is left behind."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from forked import end_template
from leftovers import KEPT, Transports, child_pids, marked_processes, memory_limit, named, still_running

if TYPE_CHECKING:
    from support import Servers, Signs

TESTS = Path(__file__).parent
MARK = "DEEPSEEK_OCR_MCP_TEST_PROCESS"
FAULT_SETTINGS = f"FAULTS,SIGNS,{MARK}"  # what fault engines are told, and how children are found


# By default, an example that takes 200 ms fails its test, and so do examples that are made slowly: on a busy machine.
hypothesis_settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("any machine")

ALWAYS_THERE = {
    "anyio_backend",
    "fault_engines",
    "interruptible",
    "own_temporary_folder",
    "tmp_path_factory",
    "transports",
}
"""Fixtures of a whole session that cost nothing."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes run the tests: what takes long begins first, and single tests fill the gaps at the end.

    The tests of a file that share something, a server or a browser, stay in one process. A file whose tests share what
    is no fixture names its group itself.
    """
    if not hasattr(config, "workerinput"):
        return
    sharing = {item.path for item in items if _shares(item)}
    for item in items:
        if item.path in sharing and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.relative_to(TESTS).as_posix()))
    items.sort(key=lambda item: 0 if item.get_closest_marker("slow") else 1 if item.path in sharing else 2)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse to run where pytest-xdist ignores groups: each process would start every server and load every model."""
    if not getattr(session.config.option, "loadgroup", False):
        return
    for item in session.items:
        if (mark := item.get_closest_marker("xdist_group")) and not item.nodeid.endswith(f"@{mark.args[0]}"):
            reason = (
                f"pytest {pytest.__version__} with this pytest-xdist does not keep the tests of a group together.\n"
            )
            os.write(2, reason.encode())  # xdist itself only says that a process of its ended
            raise pytest.UsageError(reason)


def _shares(item: pytest.Item) -> bool:
    definitions = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    return any(found[-1].scope != "function" for name, found in definitions.items() if name not in ALWAYS_THERE)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> str | tuple[str, dict[str, Any]]:
    """asyncio; for a test with the fixture `virtual_time`, trio and a clock that jumps."""
    if "virtual_time" not in request.fixturenames:
        return "asyncio"
    from virtual_time import with_jumping_clock

    return with_jumping_clock()


@pytest.fixture
def virtual_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes of waiting take a moment, and whatever would run in a thread is called inline: see `virtual_time.py`.

    A module says `pytest.mark.usefixtures("virtual_time")`.
    """
    from virtual_time import inline_threads

    inline_threads(monkeypatch)


@pytest.fixture(scope="session", autouse=True)
def fault_engines() -> Iterator[None]:
    """`faults:…` is importable in children, those of a module's fixtures too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS / "engines"), prepend=os.pathsep)
        patch.setenv("OCR_WORKER_ENV", FAULT_SETTINGS)
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Children would inherit signals that are ignored: SIGINT in the background of a shell, SIGHUP below `nohup`."""
    handlers = {"SIGINT": signal.default_int_handler, "SIGHUP": signal.SIG_DFL}
    for name, handler in handlers.items():
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """This test process and all that it starts write here and nowhere else, and nothing of ours is left at the end."""
    folder = tmp_path_factory.mktemp("tmp")
    mark = f"{os.getpid()}-{os.urandom(8).hex()}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        patch.setenv(MARK, mark)
        yield folder
        end_template()
    assert [file.name for file in folder.glob("deepseek-ocr-mcp-*")] == [], "private folders were left behind"
    assert marked_processes(MARK, mark) == [], "processes were left behind"


@pytest.fixture(scope="session")
def serve(own_temporary_folder: Path, fault_engines: None) -> Iterator[Servers]:
    """HTTP servers that all tests of this process share; see `Servers`."""
    from support import Servers  # which brings the MCP SDK: a second that most tests do without

    servers = Servers()
    yield servers
    servers.close()


@pytest.fixture
def signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Signs]:
    """What an engine of `faults.py` tells of what it does, in whatever process that is started from now on."""
    from support import Signs

    pipe = Signs(tmp_path)
    monkeypatch.setenv("SIGNS", pipe.path)
    yield pipe
    pipe.close()


@pytest.fixture(scope="session")
def transports() -> Iterator[Transports]:
    with Transports().watching() as watch:
        yield watch


@pytest.fixture(autouse=True)
def nothing_left_behind(transports: Transports) -> Iterator[None]:
    """The test that leaves a process, an open transport or a limit of this process fails, and not the one that stumbles
    over it later.
    """
    before = child_pids()
    memory = memory_limit()
    yield
    left = [*transports.take_unclosed(), *map(named, still_running(child_pids() - before - KEPT))]
    if memory_limit() != memory:
        left.append(f"a memory limit of {memory_limit()} bytes")
    assert left == [], "left behind"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the developer's own shell."""
    for name in list(os.environ):
        if name.startswith(("OCR_", "GPU_")) or name in ("HOST", "PORT"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OCR_WORKER_ENV", FAULT_SETTINGS)
