"""The measurements and tests of a clone, as `doctor --gpu` runs them: real processes, a clone that is played."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from deepseek_ocr_mcp.lifecycle.clone_checks import (
    BROKEN,
    CLONE_COMMANDS,
    CloneCommand,
    clone_checks,
    own_clone,
)
from deepseek_ocr_mcp.lifecycle.first_day import Check
from support import BOUND_S, alive

pytestmark = pytest.mark.anyio

TABLE = "| on a GPU | ours | target | claim |\n| --- | ---: | ---: | ---: |\n"
ROW = "| restore, s | 0.31 | 0.40 | holds |\n| context, MiB | 420 | | |\n"
SLEEP = "import time; time.sleep(10**6)"


async def run(folder: Path, script: str, *arguments: str, bound_s: float = BOUND_S) -> Check:
    (folder / "it.py").write_text(script)
    command = CloneCommand("moves", ("it.py", *arguments), bound_s, ("os",))
    [check] = [check async for check in clone_checks(folder, "", [command])]
    assert not check.is_skipped
    return check


async def test_a_benchmark_is_right_if_it_has_figures_of_a_card_and_every_claim_holds(tmp_path: Path) -> None:
    good = await run(tmp_path, f"print({'| a | b |' + chr(10) + TABLE + ROW + chr(10) + '| later | 1 | 2 | x |'!r})")
    assert good.passed
    assert good.found.startswith("restore, s: 0.31, 0.40, holds; context, MiB: 420 (")
    broken = await run(tmp_path, f"print({TABLE + ROW + ROW.replace('holds', BROKEN)!r})")
    assert not broken.passed
    assert BROKEN in broken.found
    assert "by hand" in broken.remedy
    empty = await run(tmp_path, f"print({TABLE + '| restore, s | | | |'!r}); print('No GPU was at hand.')")
    assert not empty.passed
    assert "restore, s: no figure" in empty.found
    nothing = await run(tmp_path, "print('other words')")
    assert not nothing.passed
    assert "other words" in nothing.found
    ended = await run(tmp_path, f"print({TABLE + ROW!r}); raise SystemExit('out of memory')")
    assert not ended.passed


@pytest.mark.parametrize(("line", "good"), [("3 passed, 2 skipped in 9 s", True), ("5 skipped in 1 s", False)])
async def test_tests_are_right_if_some_passed_and_none_failed(tmp_path: Path, line: str, good: bool) -> None:
    found = await run(tmp_path, f"print({line!r})", "pytest")
    assert (found.passed, line in found.found) == (good, True)
    assert not (await run(tmp_path, f"print({'1 failed, 3 passed'!r}); raise SystemExit(1)", "pytest")).passed


async def test_a_program_that_does_not_end_is_ended_at_its_bound(tmp_path: Path) -> None:
    found = await run(tmp_path, SLEEP, bound_s=0.1)
    assert not found.passed
    assert "longer than 1 s" in found.found


@pytest.mark.parametrize("starts_slowly", [False, True])
async def test_a_caller_that_goes_away_leaves_no_process_behind(
    starts_slowly: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = anyio.open_process

    async def start_slowly(*arguments: Any, **options: Any) -> anyio.abc.Process:
        process = await start(*arguments, **options)
        while not (tmp_path / "pids").exists() or not tasks.cancel_scope.cancel_called:
            await anyio.sleep(0.01)
        return process

    if starts_slowly:
        monkeypatch.setattr(anyio, "open_process", start_slowly)
    script = (
        "import os, pathlib, subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])\n"
        "pathlib.Path('part').write_text(f'{os.getpid()} {child.pid}')\n"
        "os.replace('part', 'pids')\n"
        f"{SLEEP}\n"
    )
    with anyio.fail_after(BOUND_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, tmp_path, script)
            while not (tmp_path / "pids").exists():
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        while any(map(alive, pids)):
            await anyio.sleep(0.01)


async def test_a_program_gets_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OCR_AUTH_TOKEN", "0123456789abcdef")
    script = "import os; print('1 told' if 'OCR_AUTH_TOKEN' in os.environ else '1 passed')"
    found = await run(tmp_path, script, "pytest")
    assert found.passed


async def test_what_cannot_run_is_skipped_with_the_reason(tmp_path: Path) -> None:
    def reasons(checks: list[Check]) -> list[str]:
        assert all(check.is_skipped and check.passed for check in checks)
        assert [check.name for check in checks] == [command.name for command in CLONE_COMMANDS]
        return [check.found for check in checks]

    failed = reasons([check async for check in clone_checks(tmp_path, "'load'")])
    assert set(failed) == {"Not run, because of 'load'."}
    nowhere = reasons([check async for check in clone_checks(None, "")])
    assert all("are in a clone" in reason for reason in nowhere)
    lacking = CloneCommand("moves", ("it.py",), 1, ("no_such_module",))
    [check] = [check async for check in clone_checks(tmp_path, "", [lacking])]
    assert "no_such_module are missing" in check.found


def test_the_programs_are_in_this_clone() -> None:
    clone = own_clone()
    assert clone == Path(__file__).parents[2]
    for command in CLONE_COMMANDS:
        place = command.arguments[-1] if command.runs_tests else command.arguments[0]
        assert os.path.exists(clone / place), command
