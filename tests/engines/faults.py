"""Tiny engines: one that works and tells what it saw, and one for each way to fail.

Standard library only: they start in 50 ms. A test names one as `OCR_ENGINE=faults:Echo`.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from deepseek_ocr_mcp.engines.base import Call, PageImage, PageText, Reading, ReadOptions, TextBlock, TextLine
from deepseek_ocr_mcp.errors import EngineUnavailable, UnsupportedMode
from deepseek_ocr_mcp.layout.lines import WordPlace


def fingerprint(pixels: bytes) -> str:
    """What `Echo` answers for a page of these RGB bytes."""
    return hashlib.sha256(pixels).hexdigest()[:12]


def sign(text: str) -> None:
    """Tell the test that waits for it: a line in the named pipe `SIGNS`, where there is one."""
    with suppress(OSError):  # the test may have ended
        pipe = os.open(os.environ.get("SIGNS", ""), os.O_WRONLY | os.O_NONBLOCK)
        os.write(pipe, f"{text}\n".encode())
        os.close(pipe)


class Echo:
    """Answers the size and the fingerprint of each page."""

    model = "echo"

    def load(self, device: str, call: Call) -> dict[str, Any]:
        return {"model": self.model}

    def offload(self) -> None: ...

    def restore(self, device: str) -> None: ...

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        texts = []
        for page in pages:
            call.progress(0.5)
            text = f"{page.width}x{page.height} {fingerprint(Path(page.path).read_bytes())}"
            box = (0, 0, page.width, page.height)
            texts.append(PageText(text, [TextBlock("line", text, box, 1.0)]))
        return texts


class Lines(Echo):
    """Finds two lines on each page."""

    remark = ""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[Reading]:  # type: ignore[override]
        lines = [TextLine("first line", (10, 10, 110, 30), 0.9), TextLine("second line", (10, 60, 110, 80), 0.8)]
        return [replace(Reading.of(page.width, page.height, lines), remark=self.remark) for page in pages]


class Puzzled(Lines):
    """Cannot read all of a page."""

    remark = "Some lines could not be read."


class Nonsense(Lines):
    """Gives readings whose words are not in their lines."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[Reading]:  # type: ignore[override]
        line = TextLine("short", (10, 10, 110, 30))
        readings = [Reading.of(page.width, page.height, [line]) for page in pages]
        object.__setattr__(line, "words", (WordPlace(2, 90, (0, 0, 1, 0, 1, 1, 0, 1)),))
        return readings


class Openable(Echo):
    """Its weights are mapped before a card is chosen.

    When it begins, it adds its pid to the file `open` in `FAULTS` and gives a sign. Then it waits while the test holds
    a lock of the file `slow` there.
    """

    def open(self, device: str, call: Call) -> dict[str, Any]:
        if "CUDA_VISIBLE_DEVICES" in os.environ:
            raise RuntimeError("a card was chosen already")
        with Path(os.environ["FAULTS"], "open").open("a") as note:
            note.write(f"{os.getpid()}\n")
        sign("opening")
        with Path(os.environ["FAULTS"], "slow").open("a") as gate:
            fcntl.flock(gate, fcntl.LOCK_SH)
        return {"model": self.model}

    def restore(self, device: str) -> None:
        if device != "cuda" or "CUDA_VISIBLE_DEVICES" not in os.environ:
            raise RuntimeError("there is no card to place them on")


class Insistent(Echo):
    """Tells a thousand times that it reads, and once that it is done."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        for step in range(1000):
            call.progress(step / 1000, "reading")
        call.progress(1.0, "done")
        return [PageText("read") for _ in pages]


class Verbose(Echo):
    """Twenty lines of ten characters for each page."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        return [PageText("\n".join(f"line {i:04}" for i in range(20))) for _ in pages]


class Drawing(Echo):
    """A page with a figure in its lower right quarter, and what a model wrote about it."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        return [
            PageText(
                "Before\n\n<!-- figure 1 -->\n\nAfter",
                [TextBlock("image", "", (page.width // 2, page.height // 2, page.width, page.height))],
                raw="<|ref|>image<|/ref|><|det|>[[500, 500, 999, 999]]<|/det|>",
            )
            for page in pages
        ]


class Remarking(Echo):
    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        return [PageText("what was read", remark="The rest is in a script of its own.") for _ in pages]


class Unfinished(Echo):
    """A model that does not come to its end: on a page that is 20 pixels high by its limit, on others in a loop."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        return [PageText("what was read", finish="length" if page.height == 20 else "loop") for page in pages]


class Blank(Echo):
    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        return [PageText("") for _ in pages]


class Printing(Echo):
    """Prints, writes to fd 1, and starts a child that prints: nothing of it may reach the client."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        print("printed by an engine", flush=True)
        os.write(1, b"written to fd 1\n")
        subprocess.run([sys.executable, "-c", "print('printed by a grandchild')"], check=True)
        sys.stdout.write("left in the buffer")
        return super().read(pages, options, call)


class Talkative(Echo):
    """Writes a megabyte to stderr."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        print("noise " * 170_000 + "the end", file=sys.stderr, flush=True)
        return super().read(pages, options, call)


class Dying(Echo):
    """Its last words are on stderr."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        print("the engine's last words", file=sys.stderr, flush=True)
        os._exit(7)


class OomKilled(Echo):
    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


class DyingOnce(Echo):
    """Dies in the first worker, works in the second: a file in the folder `FAULTS` remembers."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        marker = Path(os.environ["FAULTS"], "died")
        if not marker.exists():
            marker.touch()
            os._exit(7)
        return super().read(pages, options, call)


class Hanging(Echo):
    """Ignores SIGTERM and cancellation."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        call.progress(0.01)
        sign("reading")
        while True:
            time.sleep(60)


class Patient(Echo):
    """Reads until it is cancelled; answers `cancelled`, to stderr, when it was."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        call.progress(0.01, "reading")
        sign("reading")
        while True:
            call.raise_if_cancelled()
            time.sleep(0.005)


class Stalling(Echo):
    """Reads until it is cancelled over a page that is 13 pixels high."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        if any(page.height == 13 for page in pages):
            sign("reading")
            while True:
                call.raise_if_cancelled()
                time.sleep(0.005)
        return super().read(pages, options, call)


class RunningOut(Echo):
    """Cannot be used any more from a page on that is 13 pixels high."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        if any(page.height == 13 for page in pages):
            raise EngineUnavailable("The engine has run out.", remedy="Fill it.")
        return super().read(pages, options, call)


class SideBySide(Echo):
    """Reads all pages at once, until nobody waits for the second; the others it has read."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        call.progress(0.01, "reading")
        while not call.is_dropped(1):
            call.raise_if_cancelled()
            time.sleep(0.005)
        return [PageText("", finish="cancelled") if call.is_dropped(n) else PageText("read") for n in range(len(pages))]


class Steady(Echo):
    """Takes a twentieth of a second for each page."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        time.sleep(0.05 * len(pages))
        return super().read(pages, options, call)


class Placed(Echo):
    """Takes a twentieth of a second for each page and answers on which card it is."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        time.sleep(0.05 * len(pages))
        return [PageText(f"{page.height} on {os.environ['CUDA_VISIBLE_DEVICES']}") for page in pages]


class Sick(Placed):
    """Dies over every page while there is a file `sick-UUID` for its card in the folder `FAULTS`."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        if Path(os.environ["FAULTS"], f"sick-{os.environ['CUDA_VISIBLE_DEVICES']}").exists():
            os._exit(7)
        return super().read(pages, options, call)


class Unhurried(Echo):
    """Takes half a second for each call, and tells how far it is."""

    seconds = 0.5

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        for step in range(50):
            call.progress(step / 50, "reading")
            call.raise_if_cancelled()
            time.sleep(self.seconds / 50)
        return super().read(pages, options, call)


class Slow(Unhurried):
    """Takes four seconds for each call."""

    seconds = 4.0


class SlowToLoad(Echo):
    """Takes four seconds to load."""

    def load(self, device: str, call: Call) -> dict[str, Any]:
        time.sleep(4)
        return super().load(device, call)


class Forking(Echo):
    """Starts a child that outlives a careless parent; its pid is the text."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        return [PageText(str(child.pid)) for _ in pages]


class Unloadable(Echo):
    def load(self, device: str, call: Call) -> dict[str, Any]:
        raise EngineUnavailable("The weights are not here.", remedy="Fetch them.")


class DyingInLoad(Echo):
    def load(self, device: str, call: Call) -> dict[str, Any]:
        print("no memory for the weights", file=sys.stderr, flush=True)
        os._exit(9)


class Refusing(Echo):
    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        raise UnsupportedMode("Not this one.", remedy="Another.")


class TellingPaths(Echo):
    """An error that says where something lies on this machine."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        raise EngineUnavailable(
            "/srv/models/secret/model.bin is missing.", remedy="See /srv/models, or https://example.org/a/b."
        )


class Broken(Echo):
    """A bug in an engine: an exception that nobody foresaw."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        raise ValueError("the engine has a bug")


class Miscounting(Echo):
    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        return []


class Lying(Echo):
    """Answers boxes that are no boxes."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        return [PageText("x", [TextBlock("line", "x", (1, 2, 3), 1.0)]) for _ in pages]  # type: ignore[arg-type]


class OnePageKills(Echo):
    """The worker dies over a page that is 33 pixels high, whatever else is asked of it."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        if any(page.height == 33 for page in pages):
            os._exit(5)
        return super().read(pages, options, call)


class Eager(Echo):
    """Gives a sign when it does something before it is asked."""

    def prewarm(self) -> None:
        sign("prewarmed")


class Prying(Echo):
    """Answers what became of its attempts to look into the process that started it."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        outcomes = {}
        for name in ("environ", "mem"):
            try:
                with Path(f"/proc/{os.getppid()}/{name}").open("rb") as file:
                    file.read(1)
                outcomes[name] = "read"
            except OSError as exc:
                outcomes[name] = type(exc).__name__
        return [PageText(json.dumps(outcomes)) for _ in pages]


class Counting(Echo):
    """A model that writes seven tokens for each page."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        return [PageText("seven tokens", tokens=7) for _ in pages]


class Indiscreet(Echo):
    """Everything that an engine can do to get a page's text into a log: prints, logs, and fails over it."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        print(options.find_term, file=sys.stderr, flush=True)
        logging.getLogger("some.library").error("read %s", options.find_term)
        try:
            raise KeyError(options.find_term)
        except KeyError as exc:
            raise ValueError(f"cannot make sense of {options.find_term}") from exc


class Marking(Echo):
    """Writes what looks like log lines of ours, one of them such a line, in one piece with noise around."""

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        line = b'{"level":"error","logger":"deepseek_ocr_mcp.test","message":"a line of ours","worker":"forged"}'
        for piece in (
            b"before \x1enoise\n\x1e" + line[:30],
            line[30:] + b"\nafter \x1e{}\n\x1e" + b"x" * 5000,
            b"\nthe end",
        ):
            os.write(2, piece)
            time.sleep(0.02)
        return super().read(pages, options, call)


class Noting(Echo):
    """Notes each page that it reads in the file `reads` of the folder `FAULTS`.

    It reads as many as the file `allowed` there says, if there is one; then it waits until that says more.
    Over a page that is 33 pixels high it dies, over one of 35 it kills whoever started it.
    """

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        while self.is_held():
            call.raise_if_cancelled()
            time.sleep(0.02)
        for page in pages:
            if page.height == 33:
                os._exit(5)
            if page.height == 35:
                unfinished = Path(os.environ["FAULTS"], "..", "texts", ".batch", "unfinished", "half")
                unfinished.write_bytes(b"as if the kill had come while it wrote")
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
        texts = super().read(pages, options, call)
        notes = os.open(Path(os.environ["FAULTS"], "reads"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(notes, "".join(f"{text.text}\n" for text in texts).encode())
        os.close(notes)
        return texts

    @staticmethod
    def is_held() -> bool:
        folder = Path(os.environ["FAULTS"])
        try:
            allowed = int((folder / "allowed").read_text())
        except (FileNotFoundError, ValueError):  # not there, or being written
            return (folder / "allowed").exists()
        reads = folder / "reads"
        return reads.exists() and reads.read_text().count("\n") >= allowed


class Joined(Echo):
    """Finishes each page at once, whenever it joins, but one that is 13 pixels high only once its file `*.go` is there.

    It gives a sign when it begins to wait for that file, and writes a line for each page that it has finished.
    """

    def read(self, pages: Sequence[PageImage], options: ReadOptions, call: Call) -> list[PageText]:
        known = list(pages)
        texts: dict[int, PageText] = {}
        held: set[int] = set()
        while len(texts) < len(known):
            call.raise_if_cancelled()
            for number in [number for number in range(len(known)) if number not in texts]:
                page = known[number]
                if page.height == 13 and not Path(f"{page.path}.go").exists():
                    if number not in held:
                        held.add(number)
                        sign("holding")
                    continue
                [texts[number]] = super().read([page], options, call)
                logging.getLogger("deepseek_ocr_mcp.faults").debug("Page %d is finished.", number)
                call.finished(number, texts[number])
            known += call.more(4)
            time.sleep(0.002)
        return [texts[number] for number in range(len(known))]
