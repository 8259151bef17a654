"""Chooses the GPU for a model: a card that can run it, with the most free memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import EngineUnavailable, GpuBusy
from ..models import Gpu
from .causes import Cause, TorchBuild, remarks, unusable
from .probe import GpuProbe

__all__ = ["CardRequest", "choose_gpu", "examine", "several_gpus", "visible_devices"]


def examine(
    probe: GpuProbe, uuids: Sequence[str], build: TorchBuild | None, ours: Collection[int] = ()
) -> tuple[dict[str, Cause], dict[str, list[str]]]:
    """Why cards cannot be used, and what makes cards slow that can; both by UUID, both only where there is something.

    Args:
        probe: asked once.
        uuids: of the cards.
        build: of torch; None for an engine that does not compute with it.
        ours: ids of our own processes, which are no strangers on a card.
    """
    driver, facts = probe.facts(uuids, ours)
    causes = {uuid: cause for uuid in uuids if (cause := unusable(build, driver, facts[uuid])) is not None}
    slow = {uuid: found for uuid in uuids if uuid not in causes and (found := remarks(driver, facts[uuid]))}
    return causes, slow


def visible_devices(env: Mapping[str, str]) -> tuple[str, ...] | None:
    """The devices that the environment allows, as indices and UUIDs; None: all; (): none.

    `CUDA_VISIBLE_DEVICES` decides where it is set, as in CUDA: empty, `-1`, `none` and anything
    else that names no device hide what follows.

    Otherwise `NVIDIA_VISIBLE_DEVICES` does, by its UUIDs and `none` only. It speaks to the container
    runtime, which has obeyed before we start: its indices are the host's, while NVML counts what
    the container was given from 0 again; and CDI sets `void` in every container that *has* cards.
    """
    cuda = env.get("CUDA_VISIBLE_DEVICES")
    if cuda is not None:
        allowed: list[str] = []
        for entry in (part.strip() for part in cuda.split(",")):
            if not (_is_index(entry) or _is_uuid(entry)):
                break
            allowed.append(entry)
        return tuple(allowed)
    nvidia = env.get("NVIDIA_VISIBLE_DEVICES", "all").strip()
    if nvidia.lower() == "none":
        return ()
    entries = [part.strip() for part in nvidia.split(",")]
    return tuple(entries) if all(map(_is_uuid, entries)) else None


def _is_index(entry: str) -> bool:
    return entry.isascii() and entry.isdigit()


def _is_uuid(entry: str) -> bool:
    return entry.lower().startswith(("gpu-", "mig-"))


@dataclass(frozen=True, slots=True)
class CardRequest:
    """What a model asks of a card."""

    need_mb: int
    """MiB that the model takes."""
    reserve_mb: int
    """MiB that must stay free beside it."""
    name: str = "auto"
    """`auto`, an index in PCI order, or a UUID or the beginning of one."""
    setting: str = "OCR_GPU"
    """The setting that holds the name, for messages."""
    visible: Sequence[str] | None = None
    """What `visible_devices` returned."""

    @property
    def whole_mb(self) -> int:
        return self.need_mb + self.reserve_mb


def choose_gpu(
    cards: Sequence[Gpu],
    request: CardRequest,
    *,
    current: str | None = None,
    unusable: Mapping[str, Cause] | None = None,
    note: str = "",
) -> Gpu:
    """The card for the model: `current` if it still fits, else the most free memory, then the least
    utilisation, then the lowest index. Pure.

    Args:
        cards: what NVML lists.
        request: what the model asks for.
        current: UUID of the card that holds the worker's context.
        unusable: why a card cannot be used at all, by UUID; such cards are passed over.
        note: the probe's `note`, for the message when there is no card.

    Raises:
        EngineUnavailable: there is no card, the named one is unknown or hidden, or no allowed card can be used.
        GpuBusy: no allowed card has room; the message names each.
    """
    if not cards:
        raise EngineUnavailable(f"There is no NVIDIA GPU to use. {note}".rstrip(), remedy=_ON_CPU)
    causes = unusable or {}
    allowed = _allowed(cards, request)
    usable = [card for card in allowed if card.uuid not in causes]
    if not usable:
        remedies = {causes[card.uuid].message: causes[card.uuid].remedy for card in allowed}
        raise EngineUnavailable(" ".join(remedies), remedy=next(iter(remedies.values())))
    fitting = [card for card in usable if card.memory_free_mb >= request.whole_mb]
    if not fitting:
        raise _busy(usable, request)
    for card in fitting:
        if card.uuid == current:
            return card
    return min(fitting, key=_rank)


def _allowed(cards: Sequence[Gpu], request: CardRequest) -> list[Gpu]:
    """The cards that the environment and the setting allow, one at least."""
    seen = list(cards) if request.visible is None else _visible(cards, request.visible)
    if not seen:
        raise EngineUnavailable(
            f"CUDA_VISIBLE_DEVICES or NVIDIA_VISIBLE_DEVICES hides all {len(cards)} GPUs: {_names(cards)}.",
            remedy=f"Unset it, or name a card. {_ON_CPU}",
        )
    name, setting = request.name.strip(), request.setting
    if name.lower() in ("", "auto"):
        return seen
    named = _named(cards, name)
    if not named:
        raise EngineUnavailable(
            f"{setting}={name} names no GPU here, or more than one. There are {_names(cards)}."
            + (_STALE_MIG if name.lower().startswith("mig-") else ""),
            remedy=f"Set {setting} to {'all' if setting == 'OCR_GPUS' else 'auto'}, to one of these indices, "
            "or to a UUID.",
        )
    allowed = [card for card in seen if card in named]
    if not allowed:
        raise EngineUnavailable(
            f"{setting}={name} names a GPU that CUDA_VISIBLE_DEVICES or NVIDIA_VISIBLE_DEVICES hides.",
            remedy="Name another card, or let that variable name this one too.",
        )
    return allowed


def several_gpus(
    cards: Sequence[Gpu], entries: Sequence[str], *, least_mb: int, visible: Sequence[str] | None = None
) -> list[str]:
    """The cards that `OCR_GPUS` names, one for each worker: UUIDs, each once, in order. Pure.

    An entry that names no card now is kept as it is: a card that has failed is named, and shows in the status.

    Args:
        cards: what NVML lists.
        entries: `all`, or indices in PCI order, UUIDs and beginnings of UUIDs. The index of a card in MIG mode names
            all of its MIG devices.
        least_mb: MiB that a card must have in all; `all` leaves smaller ones out.
        visible: what `visible_devices` returned; `all` leaves the others out.
    """
    if [entry.lower() for entry in entries] == ["all"]:
        allowed = list(cards) if visible is None else _visible(cards, visible) if cards else []
        return [card.uuid for card in allowed if card.memory_total_mb >= least_mb]
    names: dict[str, None] = {}
    for entry in entries:
        names |= dict.fromkeys([card.uuid for card in _named(cards, entry)] or [entry])
    return list(names)


def _rank(card: Gpu) -> tuple[int, int, int]:
    busy = 101 if card.utilization is None else card.utilization  # unknown counts as busiest
    return -card.memory_free_mb, busy, card.index


def _visible(cards: Sequence[Gpu], entries: Sequence[str]) -> list[Gpu]:
    """The cards that the entries allow; as in CUDA, one that names no card ends the list."""
    last = max(card.index for card in cards)
    seen: dict[str, Gpu] = {}
    for entry in entries:
        named = _named(cards, entry)
        # An index with no card below the last one is a card that NVML has lost: no slip of the pen.
        if not named and not (_is_index(entry) and int(entry) < last):
            break
        seen |= {card.uuid: card for card in named}
    return list(seen.values())


def _named(cards: Sequence[Gpu], name: str) -> list[Gpu]:
    """The card of a UUID, of the beginning of only one UUID, or those of an index (several in MIG mode)."""
    if _is_index(name):
        return [card for card in cards if card.index == int(name)]
    if not _is_uuid(name):
        return []
    exact = [card for card in cards if card.uuid.lower() == name.lower()]
    begun = exact or [card for card in cards if card.uuid.lower().startswith(name.lower())]
    return begun if len(begun) == 1 else []


def _names(cards: Sequence[Gpu]) -> str:
    return ", ".join(f"{card.index} ({card.name}, {card.uuid})" for card in cards)


def _gib(mb: int) -> str:
    return f"{mb / 1024:.1f} GiB"


def _busy(cards: Sequence[Gpu], request: CardRequest) -> GpuBusy:
    each = "; ".join(
        f"GPU {card.index} ({card.name}, {card.uuid}) has {_gib(card.memory_free_mb)} free"
        f" of {_gib(card.memory_total_mb)}"
        for card in cards
    )
    message = (
        f"{each}; {_gib(request.whole_mb)} needed: {_gib(request.need_mb)} for the model, "
        f"{_gib(request.reserve_mb)} to stay free."
    )
    return GpuBusy(message, remedy=" ".join([*_ways_to_room(cards, request), _OTHERS]))


def _ways_to_room(cards: Sequence[Gpu], request: CardRequest) -> Iterator[str]:
    """The sentences that help where none of these cards has room."""
    if all(card.memory_total_mb < request.need_mb for card in cards):
        yield "That is more than an empty card has: docs/gpu-management.md lists smaller models for OCR_MODEL."
    if any(card.memory_total_mb >= request.whole_mb for card in cards):
        yield "Call gpu_release on other OCR servers, or end a program that nvidia-smi lists."
    beyond_model_mb = max(card.memory_free_mb for card in cards) - request.need_mb
    if beyond_model_mb >= 0:
        yield f"The model itself has room: set OCR_GPU_RESERVE_MB to {beyond_model_mb} or less."


_ON_CPU = "Set OCR_ENGINE=rapidocr, or OCR_GPU=cpu, to read on the CPU."
_STALE_MIG = " A MIG device gets another UUID whenever the card is divided anew."
_OTHERS = f"Or set OCR_GPU to another card. {_ON_CPU}"
