"""How much host memory is left, in containers of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from deepseek_ocr_mcp.engines.deepseek.host_memory import free_bytes

GIB = 1 << 30


def machine(root: Path, available: int, *cgroups: str) -> Path:
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {available // 1024} kB\n")
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in cgroups))
    return root


def group_v2(root: Path, path: str, limit: int | str, **used: int) -> None:
    folder = root / "sys/fs/cgroup" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in used.items()))


def group_v1(root: Path, path: str, limit: int, **used: int) -> None:
    folder = root / "sys/fs/cgroup/memory" / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in used.items()))


def test_without_a_limit_the_machine_decides(tmp_path: Path) -> None:
    root = machine(tmp_path, 7 * GIB, "0::/user.slice")
    group_v2(root, "user.slice", "max", anon=3 * GIB)
    assert free_bytes(root) == 7 * GIB


def test_a_limit_in_cgroup_v2_counts_what_is_taken_but_not_the_page_cache(tmp_path: Path) -> None:
    root = machine(tmp_path, 99 * GIB, "0::/")
    group_v2(root, "", 8 * GIB, anon=2 * GIB, shmem=GIB, file=5 * GIB)
    assert free_bytes(root) == 5 * GIB


def test_the_tightest_of_nested_groups_binds(tmp_path: Path) -> None:
    root = machine(tmp_path, 99 * GIB, "0::/kubepods/pod7/main")
    group_v2(root, "kubepods/pod7/main", "max", anon=GIB)
    group_v2(root, "kubepods/pod7", 10 * GIB, anon=4 * GIB)
    group_v2(root, "kubepods", 50 * GIB, anon=20 * GIB)
    assert free_bytes(root) == 6 * GIB


def test_a_path_of_the_host_inside_a_container_leads_to_the_root_of_the_mount(tmp_path: Path) -> None:
    root = machine(tmp_path, 99 * GIB, "0::/../../docker/abc")
    group_v2(root, "", 4 * GIB, anon=GIB)
    assert free_bytes(root) == 3 * GIB


def test_a_limit_in_cgroup_v1_counts(tmp_path: Path) -> None:
    root = machine(tmp_path, 99 * GIB, "5:cpu,cpuacct:/docker/abc", "4:memory:/docker/abc", "1:name=systemd:/x")
    group_v1(root, "docker/abc", 6 * GIB, total_rss=GIB, total_shmem=GIB)
    group_v1(root, "", 0x7FFF_FFFF_FFFF_F000, total_rss=9 * GIB)
    assert free_bytes(root) == 4 * GIB


def test_more_taken_than_allowed_leaves_nothing(tmp_path: Path) -> None:
    root = machine(tmp_path, 99 * GIB, "0::/")
    group_v2(root, "", GIB, anon=2 * GIB)
    assert free_bytes(root) == 0


@pytest.mark.parametrize("line", ["", "nonsense", "0::", ":::::"])
def test_a_file_of_another_form_is_passed_over(tmp_path: Path, line: str) -> None:
    assert free_bytes(machine(tmp_path, 5 * GIB, line)) == 5 * GIB


def test_without_any_of_these_files_the_system_is_asked(tmp_path: Path) -> None:
    assert (free_bytes(tmp_path) or 0) > 0


def test_this_machine_has_a_plausible_number() -> None:
    assert 1 << 20 < (free_bytes() or 0) < 1 << 50
