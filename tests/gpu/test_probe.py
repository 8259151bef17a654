"""The probe never raises and never hangs; the choice of a card is pure and gives a reason when it refuses."""

from __future__ import annotations

import contextlib
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from deepseek_ocr_mcp.errors import EngineUnavailable, GpuBusy
from deepseek_ocr_mcp.gpu import probe as gpu
from deepseek_ocr_mcp.gpu.choice import CardRequest, choose_gpu, several_gpus, visible_devices
from deepseek_ocr_mcp.gpu.probe import GpuProbe, wait_freed
from deepseek_ocr_mcp.models import Gpu
from fake_nvml import FakeNvml


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def card(index: int, free_mb: int, *, utilization: int | None = 0, uuid: str = "", total_mb: int = 81_920) -> Gpu:
    return Gpu(
        index=index,
        uuid=uuid or f"GPU-{index:08x}-aaaa",
        name="NVIDIA Fake",
        memory_total_mb=max(total_mb, free_mb),
        memory_used_mb=max(total_mb, free_mb) - free_mb,
        memory_free_mb=free_mb,
        utilization=utilization,
    )


FOUR = [card(0, 3_000), card(1, 20_000, utilization=9), card(2, 60_000, utilization=90), card(3, 20_000)]


# -- what the probe sees


def test_one_card_is_described(nvml: FakeNvml, probe: GpuProbe) -> None:
    nvml.add_card("GPU-1", name="NVIDIA H100", total_mb=81_559, free_mb=80_000, utilization=7)
    assert probe.cards() == [
        Gpu(
            index=0,
            uuid="GPU-1",
            name="NVIDIA H100",
            memory_total_mb=81_559,
            memory_used_mb=1_559,
            memory_free_mb=80_000,
            utilization=7,
        )
    ]
    assert probe.note == ""
    assert repr(probe) == "<GpuProbe ready>"


def test_nvml_is_neither_imported_nor_started_before_it_is_asked(nvml: FakeNvml, probe: GpuProbe) -> None:
    assert repr(probe) == "<GpuProbe not asked yet>"
    assert not nvml.calls
    probe.cards()
    probe.cards()
    assert nvml.calls["nvmlInit"] == 1


@pytest.mark.parametrize(
    ("constant", "said"),
    [
        ("NVML_ERROR_LIBRARY_NOT_FOUND", "There is no NVIDIA driver on this machine"),
        ("NVML_ERROR_DRIVER_NOT_LOADED", "kernel driver is not loaded"),
        ("NVML_ERROR_NO_PERMISSION", "may not use the NVIDIA driver"),
        ("NVML_ERROR_LIB_RM_VERSION_MISMATCH", "was updated while it ran"),
        ("NVML_ERROR_UNKNOWN", "NVML says: NVML error 999."),
    ],
)
def test_a_driver_that_does_not_start_is_named_in_the_note(
    nvml: FakeNvml, probe: GpuProbe, constant: str, said: str
) -> None:
    nvml.add_card()
    nvml.failing["nvmlInit"] = getattr(nvml, constant)
    assert probe.cards() == []
    assert said in probe.note
    assert said in repr(probe)
    assert probe.free_mb("GPU-1") is None
    assert probe.process_mb(1) is None


def test_a_missing_package_is_named_in_the_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    probe = GpuProbe()
    assert probe.cards() == []
    assert probe.note == "The package nvidia-ml-py is not installed."


def test_the_real_package_tells_why_there_is_no_card_or_lists_some() -> None:
    probe = GpuProbe()
    cards = probe.cards()
    assert cards or probe.note


def test_a_failed_start_is_tried_again_only_after_a_while(nvml: FakeNvml) -> None:
    clock = Clock()
    probe = GpuProbe(nvml, clock=clock)
    nvml.add_card()
    nvml.failing["nvmlInit"] = nvml.NVML_ERROR_DRIVER_NOT_LOADED
    for _ in range(50):
        assert probe.cards() == []
    assert nvml.calls["nvmlInit"] == 1
    nvml.failing.clear()
    clock.now += gpu.RETRY_INIT_S
    assert len(probe.cards()) == 1
    assert probe.note == ""


def test_a_driver_that_was_reloaded_is_started_again(nvml: FakeNvml, probe: GpuProbe) -> None:
    nvml.add_card()
    assert len(probe.cards()) == 1
    nvml.initialised = False
    probe.cards()
    assert len(probe.cards()) == 1
    assert nvml.calls["nvmlInit"] == 2


def test_a_driver_without_cards_says_so(nvml: FakeNvml, probe: GpuProbe) -> None:
    assert probe.cards() == []
    assert "--gpus all" in probe.note


def test_a_count_that_fails_says_so(nvml: FakeNvml, probe: GpuProbe) -> None:
    nvml.failing["nvmlDeviceGetCount"] = nvml.NVML_ERROR_UNKNOWN
    assert probe.cards() == []
    assert "does not say how many" in probe.note


def test_a_lost_card_is_left_out_and_named_and_the_others_keep_their_index(nvml: FakeNvml, probe: GpuProbe) -> None:
    lost, _ = nvml.add_card(), nvml.add_card()
    lost.lost = True
    assert [found.index for found in probe.cards()] == [1]
    assert probe.note.startswith("GPU 0 is left out. It has fallen off the bus")
    assert probe.free_mb(lost.uuid) is None
    lost.lost = False
    assert len(probe.cards()) == 2
    assert probe.note == ""


@pytest.mark.parametrize("failure", [FakeNvml.NVML_ERROR_NOT_SUPPORTED, FakeNvml.NVML_ERROR_UNKNOWN])
def test_utilisation_that_cannot_be_told_is_none(nvml: FakeNvml, probe: GpuProbe, failure: int) -> None:
    nvml.add_card()
    nvml.failing["nvmlDeviceGetUtilizationRates"] = failure
    assert probe.cards()[0].utilization is None


def test_mig_devices_stand_in_place_of_their_card(nvml: FakeNvml, probe: GpuProbe) -> None:
    nvml.add_card("GPU-whole")
    split = nvml.add_card("GPU-split", name="NVIDIA A100")
    split.add_mig("MIG-a", free_mb=1_000)
    split.add_mig("MIG-b", slot=4, free_mb=9_000)
    found = probe.cards()
    assert [(device.index, device.uuid) for device in found] == [(0, "GPU-whole"), (1, "MIG-a"), (1, "MIG-b")]
    assert found[2].name == "NVIDIA A100 MIG 1g.10gb"
    assert found[2].utilization is None
    assert probe.free_mb("MIG-b") == 9_000


def test_mig_mode_without_devices_is_named_in_the_note(nvml: FakeNvml, probe: GpuProbe) -> None:
    nvml.add_card(mig_mode=True)
    assert probe.cards() == []
    assert "GPU 0 is in MIG mode" in probe.note


def test_a_driver_that_knows_no_mig_has_plain_cards(nvml: FakeNvml, probe: GpuProbe) -> None:
    nvml.add_card("GPU-old")
    nvml.failing["nvmlDeviceGetMigMode"] = nvml.NVML_ERROR_NOT_SUPPORTED
    assert [found.uuid for found in probe.cards()] == ["GPU-old"]


def test_a_chip_that_shares_the_hosts_memory_reports_that(
    nvml: FakeNvml, probe: GpuProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.add_card("GPU-spark", shares_host_memory=True)
    monkeypatch.setattr(gpu, "_host_memory_mb", lambda: (120_000, 90_000))
    assert probe.cards()[0].memory_total_mb == 120_000
    assert probe.cards()[0].memory_used_mb == 30_000
    assert probe.free_mb("GPU-spark") == 90_000
    monkeypatch.setattr(gpu, "_host_memory_mb", lambda: None)
    assert probe.cards() == []
    assert "does not report its memory" in probe.note


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_hosts_memory_is_read() -> None:
    found = gpu._host_memory_mb()
    assert found is not None
    assert 0 < found[1] <= found[0]


def test_memory_of_an_unknown_card_is_none(nvml: FakeNvml, probe: GpuProbe) -> None:
    nvml.add_card()
    assert probe.free_mb("GPU-unknown") is None


def test_names_may_be_bytes(nvml: FakeNvml, probe: GpuProbe, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.add_card(b"GPU-1", name=b"NVIDIA Old")  # type: ignore[arg-type]
    assert [(found.uuid, found.name) for found in probe.cards()] == [("GPU-1", "NVIDIA Old")]


# -- what a process holds


def test_a_process_is_summed_over_cards_or_read_from_one(nvml: FakeNvml, probe: GpuProbe) -> None:
    first, second = nvml.add_card("GPU-1"), nvml.add_card("GPU-2")
    second.add_mig("MIG-a").take(7, 300)
    first.take(7, 500)
    assert probe.process_mb(7) == 800
    assert probe.process_mb(7, "GPU-1") == 500
    assert probe.process_mb(7, "MIG-a") == 300


def test_a_process_that_is_not_listed_holds_nothing(nvml: FakeNvml, probe: GpuProbe) -> None:
    nvml.add_card("GPU-1").take(8, 500)
    assert probe.process_mb(7, "GPU-1") == 0


def test_a_process_that_is_not_listed_inside_a_container_is_unknown(nvml: FakeNvml) -> None:
    nvml.add_card("GPU-1").take(8, 500)
    assert GpuProbe(nvml, sees_host_pids=False).process_mb(7, "GPU-1") is None


def test_memory_that_nvml_hides_is_unknown(nvml: FakeNvml, probe: GpuProbe) -> None:
    nvml.add_card("GPU-1").processes[7] = None
    assert probe.process_mb(7, "GPU-1") is None
    nvml.failing["nvmlDeviceGetComputeRunningProcesses"] = nvml.NVML_ERROR_NO_PERMISSION
    assert probe.process_mb(7) is None
    assert probe.process_mb(7, "GPU-unknown") is None


# -- whatever happens


FUNCTIONS = [name for name in dir(FakeNvml) if name.startswith("nvmlDevice")]


@given(
    failing=st.dictionaries(
        st.sampled_from(FUNCTIONS), st.sampled_from([1, 3, 4, 6, 15, 999, OSError("gone"), ValueError("odd")])
    )
)
def test_no_failure_of_nvml_raises_out_of_the_probe(failing: dict[str, int | Exception]) -> None:
    nvml = FakeNvml()
    nvml.add_card("GPU-1").take(7, 100)
    nvml.add_card("GPU-2").add_mig("MIG-a")
    nvml.failing |= failing
    probe = GpuProbe(nvml, sees_host_pids=True)
    cards = probe.cards()
    assert len(cards) == 2 or probe.note or {"nvmlDeviceGetMigMode"} & set(failing)
    for uuid in ("GPU-1", "MIG-a", "GPU-unknown"):
        probe.free_mb(uuid)
        probe.process_mb(7, uuid)
    probe.process_mb(7)


def test_a_driver_that_hangs_does_not_hang_the_probe(nvml: FakeNvml) -> None:
    nvml.add_card("GPU-1")
    probe = GpuProbe(nvml, timeout=0.05)
    ends = nvml.hanging["nvmlDeviceGetMemoryInfo"] = threading.Event()
    before = threading.active_count()
    try:
        assert probe.cards() == []
        assert "does not answer" in probe.note
        for _ in range(20):
            assert probe.free_mb("GPU-1") is None
        assert threading.active_count() <= before + 1, "a thread is added for each question to a hung driver"
    finally:
        ends.set()
    nvml.hanging.clear()
    probe._hung.join()  # type: ignore[union-attr]
    assert len(probe.cards()) == 1
    assert probe.note == ""


def test_an_unforeseen_answer_is_logged_and_does_not_raise(
    nvml: FakeNvml, probe: GpuProbe, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.add_card("GPU-1")
    monkeypatch.setattr(nvml, "nvmlDeviceGetComputeRunningProcesses", lambda handle: [SimpleNamespace(odd=1)])
    assert probe.process_mb(7) is None
    assert "unforeseen" in caplog.text


# -- the choice


def chosen_gpu(
    cards: list[Gpu], *, need_mb: int, reserve_mb: int, wanted: str = "auto", current: str | None = None, **how: Any
) -> Gpu:
    note = how.pop("note", "")
    return choose_gpu(cards, CardRequest(need_mb, reserve_mb, wanted, **how), current=current, note=note)


def choose(cards: list[Gpu], **how: Any) -> int:
    return chosen_gpu(cards, **{"need_mb": 8_000, "reserve_mb": 1_000, **how}).index


def test_the_emptiest_card_is_chosen_whatever_its_index() -> None:
    assert choose(FOUR) == 2


def test_of_equally_empty_cards_the_least_used_is_chosen_then_the_first() -> None:
    assert choose([FOUR[1], FOUR[3]]) == 3
    assert choose([card(0, 20_000, utilization=None), card(1, 20_000, utilization=100)]) == 1
    assert choose([card(1, 20_000), card(0, 20_000)]) == 0


def test_the_model_stays_where_it_is_while_it_fits() -> None:
    assert choose(FOUR, current=FOUR[1].uuid) == 1


def test_a_card_that_filled_up_between_load_and_restore_is_left(nvml: FakeNvml, probe: GpuProbe) -> None:
    first, second = nvml.add_card(free_mb=40_000), nvml.add_card(free_mb=30_000)
    chosen = chosen_gpu(probe.cards(), need_mb=8_000, reserve_mb=1_000)
    assert chosen.uuid == first.uuid
    first.take(99, 35_000)
    assert chosen_gpu(probe.cards(), need_mb=8_000, reserve_mb=1_000, current=chosen.uuid).uuid == second.uuid


@pytest.mark.parametrize("wanted", ["1", "GPU-00000001", "gpu-00000001-AAAA", " 1 "])
def test_a_wanted_card_is_taken_though_another_has_more_room(wanted: str) -> None:
    assert choose(FOUR, wanted=wanted) == 1


def test_a_wanted_card_that_is_full_is_refused_though_another_has_room() -> None:
    with pytest.raises(GpuBusy, match=r"GPU 0 .* 2\.9 GiB free"):
        choose(FOUR, wanted="0")


@pytest.mark.parametrize("wanted", ["4", "GPU-0000000", "GPU-", "tpu", "-1", "MIG-x"])
def test_a_wanted_card_that_is_unknown_or_ambiguous_is_refused_with_those_there_are(wanted: str) -> None:
    with pytest.raises(EngineUnavailable, match=f"OCR_GPU={wanted} .*3 \\(NVIDIA Fake, GPU-00000003-aaaa\\)"):
        choose(FOUR, wanted=wanted)


def test_an_index_means_any_mig_device_of_that_card_and_a_uuid_means_one() -> None:
    cards = [card(0, 90_000), card(1, 9_500, uuid="MIG-a"), card(1, 9_900, uuid="MIG-b")]
    assert chosen_gpu(cards, need_mb=8_000, reserve_mb=0, wanted="1").uuid == "MIG-b"
    assert chosen_gpu(cards, need_mb=8_000, reserve_mb=0, wanted="MIG-a").uuid == "MIG-a"


def test_a_refusal_names_each_card_its_free_memory_the_need_and_the_remedy() -> None:
    with pytest.raises(GpuBusy) as refused:
        choose(FOUR, need_mb=100_000, reserve_mb=1_024)
    message, remedy = refused.value.message, refused.value.remedy
    for one in FOUR:
        assert f"GPU {one.index} (NVIDIA Fake, {one.uuid}) has {one.memory_free_mb / 1024:.1f} GiB free" in message
    assert "98.7 GiB needed: 97.7 GiB for the model, 1.0 GiB to stay free." in message
    assert "more than an empty card has" in remedy
    assert "OCR_GPU=cpu" in remedy
    with pytest.raises(GpuBusy) as full:
        choose([FOUR[0]])
    assert "gpu_release" in full.value.remedy
    assert "OCR_GPU_RESERVE_MB" not in full.value.remedy  # a smaller reserve would not help


def test_a_refusal_for_the_reserve_alone_names_the_reserve_with_which_the_model_fits() -> None:
    small = card(0, 3_950, total_mb=4_096)
    with pytest.raises(GpuBusy) as refused:
        chosen_gpu([small], need_mb=3_904, reserve_mb=1_024)
    assert "set OCR_GPU_RESERVE_MB to 46 or less" in refused.value.remedy
    assert "gpu_release" not in refused.value.remedy  # no program that ends makes the card larger
    assert chosen_gpu([small], need_mb=3_904, reserve_mb=46) is small


def test_without_a_card_the_reason_and_the_way_to_the_cpu_are_named() -> None:
    with pytest.raises(EngineUnavailable, match="The driver is asleep") as none:
        choose([], note="The driver is asleep.")
    assert "OCR_ENGINE=rapidocr" in none.value.remedy


# -- what the environment allows


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        ({"CUDA_VISIBLE_DEVICES": ""}, ()),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "none"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "void"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, ()),
        ({"CUDA_VISIBLE_DEVICES": "0, 2"}, ("0", "2")),
        ({"CUDA_VISIBLE_DEVICES": "1,-1,0"}, ("1",)),
        ({"CUDA_VISIBLE_DEVICES": "GPU-3f2a,MIG-1"}, ("GPU-3f2a", "MIG-1")),
        ({"CUDA_VISIBLE_DEVICES": "1", "NVIDIA_VISIBLE_DEVICES": "none"}, ("1",)),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, None),
        ({"NVIDIA_VISIBLE_DEVICES": "none"}, ()),
        ({"NVIDIA_VISIBLE_DEVICES": "GPU-3f2a"}, ("GPU-3f2a",)),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(env: dict[str, str], expected: tuple[str, ...] | None) -> None:
    assert visible_devices(env) == expected


@pytest.mark.parametrize("value", ["", "void", "1", "2,3", "0:1"])
def test_what_the_container_runtime_has_obeyed_already_is_not_obeyed_twice(value: str) -> None:
    """`docker --gpus device=1` sets NVIDIA_VISIBLE_DEVICES=1, and NVML calls that card 0; CDI sets `void`."""
    assert visible_devices({"NVIDIA_VISIBLE_DEVICES": value}) is None


def test_only_visible_cards_are_chosen() -> None:
    assert choose(FOUR, visible=("1", "0")) == 1
    assert choose(FOUR, visible=("GPU-00000003",)) == 3
    assert choose(FOUR, visible=("3",), current=FOUR[2].uuid) == 3


def test_entries_after_one_that_names_no_card_are_ignored_as_in_cuda() -> None:
    assert choose(FOUR, visible=("1", "9", "2")) == 1
    assert choose(FOUR, visible=("1", "GPU-0", "2")) == 1, "an ambiguous prefix names no card"


def test_a_lost_card_among_the_visible_does_not_hide_the_rest() -> None:
    assert choose(FOUR[1:], visible=("0", "2")) == 2


def test_cards_that_are_all_hidden_are_reported_as_hidden() -> None:
    for visible in ((), ("9",)):
        with pytest.raises(EngineUnavailable, match="hides all 4 GPUs"):
            choose(FOUR, visible=visible)


def test_a_wanted_card_that_is_hidden_is_reported_as_hidden() -> None:
    with pytest.raises(EngineUnavailable, match="OCR_GPU=2 names a GPU that CUDA_VISIBLE_DEVICES"):
        choose(FOUR, wanted="2", visible=("0", "1"))


machines = st.lists(st.tuples(st.integers(0, 90_000), st.none() | st.integers(0, 100)), min_size=1, max_size=8).map(
    lambda facts: [card(i, free, utilization=use) for i, (free, use) in enumerate(facts)]
)


@given(cards=machines, need=st.integers(0, 90_000), reserve=st.integers(0, 4_000), data=st.data())
def test_a_chosen_card_always_fits_is_allowed_and_no_fitting_one_is_emptier(
    cards: list[Gpu], need: int, reserve: int, data: st.DataObject
) -> None:
    entries = st.sampled_from([str(one.index) for one in cards] + [one.uuid for one in cards])
    visible = data.draw(st.none() | st.lists(entries, min_size=1))
    current = data.draw(st.none() | st.sampled_from([one.uuid for one in cards]))
    allowed = [one for one in cards if visible is None or str(one.index) in visible or one.uuid in visible]
    fitting = [one for one in allowed if one.memory_free_mb >= need + reserve]
    if not fitting:
        with pytest.raises(GpuBusy) as refused:
            chosen_gpu(cards, need_mb=need, reserve_mb=reserve, visible=visible, current=current)
        assert all(one.uuid in refused.value.message for one in allowed)
        return
    chosen = chosen_gpu(cards, need_mb=need, reserve_mb=reserve, visible=visible, current=current)
    assert chosen in fitting
    if current in [one.uuid for one in fitting]:
        assert chosen.uuid == current
    else:
        assert chosen.memory_free_mb == max(one.memory_free_mb for one in fitting)


@given(
    cards=st.just([]) | machines,
    wanted=st.text(max_size=12),
    visible=st.none() | st.lists(st.text(max_size=12)),
)
def test_whatever_is_wanted_the_answer_is_a_card_or_one_of_two_errors(
    cards: list[Gpu], wanted: str, visible: list[str] | None
) -> None:
    with contextlib.suppress(EngineUnavailable, GpuBusy):
        assert chosen_gpu(cards, need_mb=1, reserve_mb=1, wanted=wanted, visible=visible) in cards


@given(cards=machines, order=st.randoms())
def test_the_choice_does_not_depend_on_the_order_of_the_list(cards: list[Gpu], order: object) -> None:
    shuffled = list(cards)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    try:
        first = chosen_gpu(cards, need_mb=10_000, reserve_mb=0)
    except GpuBusy:
        with pytest.raises(GpuBusy):
            chosen_gpu(shuffled, need_mb=10_000, reserve_mb=0)
    else:
        assert chosen_gpu(shuffled, need_mb=10_000, reserve_mb=0) == first


@given(text=st.text())
def test_no_text_in_the_environment_raises(text: str) -> None:
    visible_devices({"CUDA_VISIBLE_DEVICES": text})
    visible_devices({"NVIDIA_VISIBLE_DEVICES": text})


# -- memory that comes back


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


# -- several cards


def several(*wanted: str, cards: list[Gpu] = FOUR, **how: Any) -> list[str]:
    return [name.removesuffix("-aaaa")[-1] for name in several_gpus(cards, wanted, **{"least_mb": 9_000, **how})]


def test_all_names_every_card_in_pci_order() -> None:
    assert several("all") == several("ALL") == ["0", "1", "2", "3"]


def test_all_leaves_out_what_is_hidden_and_what_can_never_hold_the_model() -> None:
    assert several("all", visible=("2", "1")) == ["2", "1"]
    assert several("all", visible=()) == []
    assert several("all", cards=[card(0, 2_000, total_mb=4_000), card(1, 2_000)]) == ["1"]
    assert several("all", cards=[]) == []
    assert several("all", cards=[], visible=("0",)) == []


def test_a_list_names_each_card_once_in_its_order() -> None:
    assert several("3", "GPU-00000001-aaaa", "GPU-00000001", "3", "0") == ["3", "1", "0"]


def test_a_list_may_name_a_small_card_and_one_that_is_not_there() -> None:
    assert several_gpus([card(0, 2_000, total_mb=4_000)], ("0", "7"), least_mb=9_000) == ["GPU-00000000-aaaa", "7"]
    assert several_gpus([], ("0", "1"), least_mb=9_000) == ["0", "1"]


def test_the_index_of_a_card_in_mig_mode_names_all_of_its_slices(nvml: FakeNvml, probe: GpuProbe) -> None:
    parted = nvml.add_card()
    parted.add_mig("MIG-a")
    parted.add_mig("MIG-b")
    nvml.add_card("GPU-whole")
    assert several_gpus(probe.cards(), ("0", "MIG-b", "1"), least_mb=9_000) == ["MIG-a", "MIG-b", "GPU-whole"]


def test_what_is_said_of_a_card_names_the_setting_that_named_it() -> None:
    with pytest.raises(EngineUnavailable, match="OCR_GPUS=7 names no GPU") as caught:
        chosen_gpu(FOUR, need_mb=1, reserve_mb=1, wanted="7", setting="OCR_GPUS")
    assert "Set OCR_GPUS to all" in caught.value.remedy


class LateProbe(GpuProbe):
    """Gives memory back bit by bit: `readings` one after the other, the last for ever."""

    def __init__(self, *readings: int | None) -> None:
        super().__init__(FakeNvml())
        self.readings = list(readings)

    def free_mb(self, uuid: str) -> int | None:
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]


@pytest.mark.anyio
async def test_the_wait_ends_when_three_quarters_are_back() -> None:
    probe = LateProbe(1_000, None, 2_000, 7_000, 8_900, 9_000)
    assert await wait_freed(probe, "GPU-1", free_before_mb=1_000, expect_mb=8_000) == 6_000
    assert probe.readings == [8_900, 9_000]


@pytest.mark.anyio
async def test_the_wait_ends_after_its_bound_with_what_came_back() -> None:
    import trio

    began = trio.current_time()
    assert await wait_freed(LateProbe(1_500), "GPU-1", free_before_mb=1_000, expect_mb=8_000) == 500
    assert trio.current_time() - began == pytest.approx(5.0)


@pytest.mark.anyio
async def test_a_card_that_fills_up_or_vanishes_meanwhile_freed_nothing() -> None:
    assert await wait_freed(LateProbe(200), "GPU-1", free_before_mb=1_000, expect_mb=8_000) == 0
    assert await wait_freed(LateProbe(None), "GPU-1", free_before_mb=1_000, expect_mb=8_000) == 0


@pytest.mark.anyio
async def test_nothing_expected_is_no_wait() -> None:
    import trio

    began = trio.current_time()
    assert await wait_freed(LateProbe(1_000), "GPU-1", free_before_mb=1_000, expect_mb=0) == 0
    assert trio.current_time() == began
