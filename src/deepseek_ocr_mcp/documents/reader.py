"""Opens documents. A file may be hostile, so a child process without secrets parses it.

The parent copies the input once into a private folder and never parses it. The child (`decoder/renderer.py`) may crash,
hang or fill its memory. Then it is killed, the request that brought the file gets an error, and every other request
goes on. Pages come back as raw RGB files, which the process of the engine maps; they are deleted when they are read.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any, Final, Protocol, Self

import anyio
import anyio.abc
import anyio.to_thread

from ..config import Settings
from ..engines.base import PageImage
from ..errors import EngineUnavailable, InputNotFound, NotReady, Timeout, UnreadableInput
from ..export_formats import EXPORT_FORMATS, ExportOptions
from ..text import well_formed
from ..worker.client import WorkerDied
from ..worker.confine import Confined
from ..worker.protocol import CONFINED
from .argument import Argument
from .child import spawn_decoder
from .private import is_whole, restore
from .ranges import parse_pages
from .source import Incoming, Snapshot, discard, open_source
from .turns import Turns

__all__ = ["Document", "DocumentReader", "KeptDocument", "LayerText", "Preview", "UnreadPart"]


log = logging.getLogger(__name__)

EXPORT_TIMEOUT_S: Final = 300.0  # seconds; a long document takes minutes
EXPORTS_AT_ONCE: Final = 2  # each has a process of its own, so that no page waits for an export
PICTURE_DPI: Final = 144  # of pages that a caller asks for as pictures, as the first service drew them
DECODE_TIMEOUT_S: Final = 60.0  # seconds; a JPEG of 200 megapixels takes four, so that a longer wait is a hang
LAYER_TIMEOUT_S: Final = 15.0  # seconds; the child gives up after six, and opening a huge page comes on top
IDLE_EXIT_S: Final = 30.0  # seconds; an idle decoder holds 30 MB, and a start takes 0.1 s


class _Decoder(Protocol):
    @property
    def alive(self) -> bool: ...
    async def call(self, method: str, arguments: dict[str, Any], *, timeout: float) -> dict[str, Any]: ...
    async def stop(self) -> None: ...


@contextmanager
def _blamed(what: str, seconds: float) -> Iterator[None]:
    """A context that blames the file if two decoders, one after the other, crash or hang over it.

    Args:
        what: the document or the page, for the message.
        seconds: the time limit, for the message.
    """
    try:
        yield
    except WorkerDied:
        raise UnreadableInput(
            f"The decoder crashed over {what}.",
            remedy="The file is damaged or made to do harm: open it in a viewer and save it anew.",
        ) from None
    except Timeout:
        raise UnreadableInput(
            f"Decoding {what} took over {seconds:g} s and was stopped.",
            remedy="Send fewer or smaller pages, or save the file anew with a viewer.",
        ) from None


def _write_json(path: str, data: Any) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(data, file)


@dataclass(frozen=True, slots=True)
class LayerText:
    """The text layer of a page: text that the page holds itself and that a person sees on it."""

    width: int
    """Pixels of the page as `Document.page` would draw it; 0 if they are not known: then the text is not usable."""
    height: int
    reading: dict[str, Any] | None = None
    """The text and its places, as JSON of a `Reading` in these pixels; None if the text is not usable."""
    usable: bool = False
    """Whether the page shows nothing else than this text. A blank page is usable, and its reading has no lines."""
    why: str = ""
    """The reason why the text is not usable, or not all that the page shows, as a part of a sentence: "it has none"."""
    remark: str = ""
    """A sentence for the caller about limits of the text; empty if there are none."""
    partial: bool = False
    """Whether the text is good, but the page shows more. `Document.unread_part` draws the rest."""


@dataclass(frozen=True, slots=True)
class UnreadPart:
    """The part of a page that its text layer does not hold, drawn without the text that the layer does hold."""

    image: PageImage
    left: int
    """The left edge of the part, in pixels of the page as `Document.page` draws it."""
    top: int
    """The upper edge of the part, in the same pixels."""


@dataclass(frozen=True, slots=True)
class Document:
    """An open document. It is good while its context lasts."""

    snapshot: Snapshot
    format: str
    page_count: int
    _reader: DocumentReader
    _folder: str
    notes: tuple[str, ...] = ()
    """Sentences about parts of the document that are no pages, such as attachments."""
    client: str = ""
    """The name of the client that reads it; clients take turns at the decoder."""

    def numbers(self, pages: str) -> list[int]:
        """The pages that a request names, like "1-3,7"."""
        return parse_pages(pages, self.page_count)

    async def page(self, number: int) -> PageImage:
        """Draw page `number`, from 1, upright. The file lasts until `discard`, or until the document is closed.

        Raises:
            UnreadableInput, InputTooLarge: the page cannot be drawn, or exceeds the limits.
        """
        out = os.path.join(self._folder, f"page-{number}")
        size = await self._reader.draw("render", self, number, out)
        return PageImage(out, int(size["width"]), int(size["height"]))

    async def unread_part(self, number: int) -> UnreadPart:
        """Draw the part of page `number`, from 1, that its text layer does not hold. The file lasts as that of `page`.

        Raises:
            UnreadableInput, InputTooLarge: as `page` does.
        """
        out = os.path.join(self._folder, f"part-{number}")
        left, top, right, bottom = (await self._reader.draw("render_unread", self, number, out))["box"]
        return UnreadPart(PageImage(out, right - left, bottom - top), left, top)

    async def text_layer(self, number: int, read: Sequence[Mapping[str, Any]] | None = None) -> LayerText:
        """The text that page `number`, from 1, holds itself.

        Args:
            number: the page.
            read: lines that an engine found in the `unread_part`, as blocks in pixels of the page. They are merged
                with the text.

        A hostile, huge or damaged text layer is not usable. That is no error, because the page can be drawn.

        Raises:
            BadRequest, UnreadableInput, InputTooLarge: as `page` does.
        """
        if self.format != "PDF":
            return LayerText(0, 0, why="a picture has none")
        return await self._reader.text_layer(self, number, read)

    def discard(self, image: PageImage) -> None:
        """Delete the file of a page that has been read."""
        with contextlib.suppress(OSError):
            os.unlink(image.path)

    async def crop(self, image: PageImage, box: Sequence[int]) -> str:
        """Cut a region out of a page. Returns the path of a PNG that lasts until the document is closed."""
        out = f"{image.path}-{'-'.join(map(str, box))}.png"
        await self._reader.crop(self, image, box, out)
        return out

    async def codes(self, image: PageImage) -> list[dict[str, Any]]:
        """The QR codes and barcodes on a page that was drawn: `symbology`, `text` and `box` of each."""
        return await self._reader.codes(self, image)

    async def annotate(self, image: PageImage, blocks: Sequence[Mapping[str, Any]]) -> tuple[bytes, str]:
        """The page with its boxes drawn: an encoded image and its media type."""
        out = os.path.join(self._folder, "annotated")
        mime = await self._reader.annotate(self, image, blocks, out)
        return await anyio.Path(out).read_bytes(), mime

    async def preview(self, number: int, side: int) -> Preview:
        """Page `number` as a small picture, upright.

        Args:
            number: the page, from 1.
            side: pixels of the longer side, at most.
        """
        out = os.path.join(self._folder, f"preview-{number}")
        drawn = await self._reader.draw("preview", self, number, out, side=side)
        data = await anyio.Path(out).read_bytes()
        return Preview(data, str(drawn["mime"]), int(drawn["width"]), int(drawn["height"]))

    async def keep(self) -> KeptDocument:
        """Keep the document for later. Its file outlives this context, until `let_go`."""
        return await self._reader.keep(self.snapshot)

    async def picture(self, number: int) -> bytes:
        """Page `number` as PNG."""
        out = os.path.join(self._folder, f"picture-{number}")
        await self._reader.draw("picture", self, number, out, dpi=PICTURE_DPI)
        data = await anyio.Path(out).read_bytes()
        await anyio.Path(out).unlink()
        return data


class KeptDocument:
    """A document that can be opened after its request was answered.

    All holders of the same bytes with the same password share one.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._holders = 1

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._snapshot.size

    @property
    def alive(self) -> bool:
        """Whether somebody holds it still."""
        return self._holders > 0

    def hold(self) -> Self:
        """Add a holder. Returns this document."""
        self._holders += 1
        return self

    def let_go(self) -> None:
        """Remove a holder. The file is deleted with the last one."""
        self._holders -= 1
        if not self._holders:
            discard(self._snapshot)

    def linked(self, folder: str) -> Snapshot:
        """A snapshot of the document in `folder`. Whoever opens the snapshot may delete it.

        Raises:
            InputNotFound: nobody holds it any more.
        """
        path = os.path.join(folder, "kept")
        try:
            _link(self._snapshot.path, path)
        except FileNotFoundError:
            raise InputNotFound("The document is not kept any more.", remedy="Call ocr_image again.") from None
        return replace(self._snapshot, path=path)


def _link(path: str, to: str) -> None:
    """Give a file a second name; on a file system without links, copy it."""
    try:
        os.link(path, to)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, to)


@dataclass(frozen=True, slots=True)
class Preview:
    """A page as a small picture."""

    data: bytes
    mime: str
    width: int
    """Pixels of the whole upright page, to which boxes refer."""
    height: int


class DocumentReader:
    """Opens documents with one decoder at most, which is started when it is needed.

    Use it inside `async with reader.running():`.
    """

    def __init__(
        self, settings: Settings, folder: str, *, spawn: Callable[[], Awaitable[_Decoder]] | None = None
    ) -> None:
        """
        Args:
            settings: the settings of the operator.
            folder: the private folder of this process.
            spawn: starts a decoder; default: one that is confined to `folder`.
        """
        self._settings = settings
        self._folder = folder
        self._spawn = spawn or partial(spawn_decoder, folder)
        self._turns = Turns()
        self._exports = Turns(EXPORTS_AT_ONCE)
        self._decoder: _Decoder | None = None
        self._is_stale = False
        self._silent: set[str] = set()  # paths of documents whose text layer has crashed or blocked a decoder
        self._open = 0
        self._kept: dict[tuple[str, str], KeptDocument] = {}
        self._kept_folder = os.path.join(folder, "kept")
        self._changed = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """The lifespan of the decoder. It also ends when no document has been open for `IDLE_EXIT_S`."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                tasks.start_soon(self._watch_idle)
                try:
                    yield self
                finally:
                    tasks.cancel_scope.cancel()
        finally:
            shutil.rmtree(self._kept_folder, ignore_errors=True)
            if self._decoder is not None:
                await self._decoder.stop()

    def check(self) -> None:
        """Make sure that the private folder exists.

        Raises:
            NotReady: the folder is gone and cannot be made again.
        """
        if is_whole(self._folder):
            return
        log.warning("The private folder was removed by another program, and is made again.")
        try:
            restore(self._folder)
        except OSError as exc:
            raise NotReady(
                f"The folder for pages cannot be made: {exc.strerror or exc}.",
                remedy="The operator makes the folder for temporary files (TMPDIR) writable again, with space in it.",
            ) from None
        self._is_stale = True  # the decoder is confined to the folder that was removed

    async def confined(self) -> Confined:
        """The bounds of the decoder, as the decoder itself reports them."""
        return Confined(**await self._ask("", CONFINED, {}, DECODE_TIMEOUT_S))

    def _fresh_folder(self) -> str:
        """A new folder in the private one."""
        self.check()
        return tempfile.mkdtemp(dir=self._folder)

    async def keep(self, snapshot: Snapshot) -> KeptDocument:
        """Keep the file of an open document for later."""
        self._kept = {key: kept for key, kept in self._kept.items() if kept.alive}
        key = (snapshot.sha256, snapshot.password)  # whoever has the same bytes need not know the password
        if (kept := self._kept.get(key)) is not None:
            return kept.hold()
        os.makedirs(self._kept_folder, mode=0o700, exist_ok=True)
        path = os.path.join(self._kept_folder, secrets.token_hex(8))
        await anyio.to_thread.run_sync(_link, snapshot.path, path)
        kept = self._kept[key] = KeptDocument(replace(snapshot, path=path))
        return kept

    @asynccontextmanager
    async def receive(self) -> AsyncIterator[Incoming]:
        """Room for a file that is being sent. The file is deleted at the end, unless it was opened."""
        folder = self._fresh_folder()
        try:
            yield Incoming(self._settings, folder)
        finally:
            self._remove_soon(folder)

    @asynccontextmanager
    async def lent(self, kept: KeptDocument, name: str) -> AsyncIterator[Snapshot]:
        """The file of a kept document, as if it had just been received.

        Args:
            kept: the document.
            name: its name in messages.

        Raises:
            InputNotFound: nobody holds it any more.
        """
        folder = self._fresh_folder()
        try:
            yield replace(await anyio.to_thread.run_sync(kept.linked, folder), name=name)
        finally:
            self._remove_soon(folder)

    @asynccontextmanager
    async def open(
        self, source: Argument | Snapshot | KeptDocument, client: str = "", *, password: str = ""
    ) -> AsyncIterator[Document]:
        """Open a document.

        Args:
            source: an `image` argument, a file that was received, or a document that was kept.
            client: the name of the client; clients take turns at the decoder.
            password: of a locked PDF, where `source` does not hold it.

        Raises:
            OcrError: see `open_source`; or the decoder cannot read the document.
        """
        folder = self._fresh_folder()
        self._open += 1
        snapshot: Snapshot | None = None
        try:
            if isinstance(source, Snapshot):
                snapshot = replace(source, path=os.path.join(folder, os.path.basename(source.path)))
                os.replace(source.path, snapshot.path)  # whoever received it may be answered before it is closed
            elif isinstance(source, KeptDocument):
                snapshot = source.linked(folder)
            else:
                snapshot = await open_source(source, self._settings, folder)
            snapshot = replace(snapshot, password=snapshot.password or well_formed(password))
            most = {"max_pixels": self._settings.max_pixels, "max_pages": self._settings.ocr_max_pages}
            facts = await self._call(client, snapshot.name, "inspect", file=snapshot.file, **most)
            notes = tuple(map(str, facts.get("notes", ())))
            yield Document(snapshot, str(facts["format"]), int(facts["pages"]), self, folder, notes, client)
        finally:
            self._open -= 1
            if snapshot is not None:
                self._silent.discard(snapshot.path)
            self._changed.set()
            self._remove_soon(folder)

    def _remove_soon(self, folder: str) -> None:
        assert self._tasks is not None, "use the reader inside `async with reader.running():`"
        self._tasks.start_soon(self._remove, folder)  # it takes 2 ms, and no answer waits for it

    async def _remove(self, folder: str) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))

    async def draw(self, method: str, document: Document, number: int, out: str, **arguments: int) -> dict[str, Any]:
        """Draw page `number` into the file `out`.

        Args:
            method: a method of `PageRenderer`.
            document: the document.
            number: the page, from 1.
            out: the path of the file.
            arguments: further arguments of the method.

        Returns:
            The answer of the method.
        """
        snapshot = document.snapshot
        given: dict[str, Any] = {
            "dpi": self._settings.ocr_pdf_dpi,
            "max_pixels": self._settings.max_pixels,
            **arguments,
        }
        given |= {"file": snapshot.file, "page": number, "out": out}
        return await self._call(document.client, f"page {number} of {snapshot.name}", method, **given)

    async def text_layer(
        self, document: Document, number: int, read: Sequence[Mapping[str, Any]] | None = None
    ) -> LayerText:
        """Look up the text layer of page `number`, and merge it with lines that were read; see
        `Document.text_layer`."""
        snapshot = document.snapshot
        if snapshot.path in self._silent:
            return LayerText(0, 0, why="the text layer of another page could not be read")
        arguments: dict[str, Any] = {
            "file": snapshot.file,
            "page": number,
            "dpi": self._settings.ocr_pdf_dpi,
            "max_pixels": self._settings.max_pixels,
            "read": None if read is None else list(read),
        }
        try:
            found = await self._ask(document.client, "text_layer", arguments, LAYER_TIMEOUT_S)
        except WorkerDied:
            self._silent.add(snapshot.path)
            return LayerText(0, 0, why="the decoder crashed over its text layer")
        except Timeout:
            self._silent.add(snapshot.path)
            return LayerText(0, 0, why="reading its text layer took too long")
        return LayerText(**found)

    async def crop(self, document: Document, image: PageImage, box: Sequence[int], out: str) -> None:
        """Cut a region of a page into the file `out`."""
        name = document.snapshot.name
        await self._call(document.client, name, "crop", image=asdict(image), box=list(box), out=out)

    async def annotate(
        self, document: Document, image: PageImage, blocks: Sequence[Mapping[str, Any]], out: str
    ) -> str:
        """Draw a page with its boxes into the file `out`. Returns the media type of the file."""
        boxed = {"image": asdict(image), "blocks": list(blocks), "out": out}
        drawn = await self._call(document.client, document.snapshot.name, "annotate", **boxed)
        return str(drawn["mime"])

    async def codes(self, document: Document, image: PageImage) -> list[dict[str, Any]]:
        """Have the codes on a drawn page read."""
        found = await self._call(document.client, document.snapshot.name, "codes", image=asdict(image))
        return list(found["codes"])

    async def encoded(self, image: PageImage, side: int) -> tuple[str, str]:
        """Encode a drawn page as a file that can be sent. Returns the path and the media type of the file.

        Args:
            image: the page.
            side: pixels of the longer side, at most.
        """
        out = f"{image.path}-{side}"
        encoded = await self._call("", "a page", "encode", image=asdict(image), side=side, out=out)
        return out, str(encoded["mime"])

    @asynccontextmanager
    async def exported(
        self,
        format: str,
        pages: Sequence[Mapping[str, Any]],
        options: ExportOptions,
        document: Snapshot | KeptDocument | None = None,
        client: str = "",
    ) -> AsyncIterator[str]:
        """A file that a decoder wrote of these pages, as they were read. The path is good while the context lasts.

        Args:
            format: a name of `EXPORT_FORMATS`.
            pages: the pages as JSON.
            options: the title and the mode of the pages, and more.
            document: the document of the pages, for a format that needs it.
            client: the name of the client; clients take turns.

        Raises:
            BadRequest: the pages hold nothing that the format could show.
            InputNotFound: the document is not kept any more.
        """
        folder = self._fresh_folder()
        try:
            texts, out = os.path.join(folder, "pages.json"), os.path.join(folder, "export")
            await anyio.to_thread.run_sync(_write_json, texts, pages)
            needed = document if EXPORT_FORMATS[format].needs_document else None
            snapshot = needed.linked(folder) if isinstance(needed, KeptDocument) else needed
            async with self._exports.turn(client):
                await self._export(snapshot, format=format, pages=texts, options=asdict(options), out=out)
            yield out
        finally:
            self._remove_soon(folder)

    @asynccontextmanager
    async def joined(
        self, parts: Sequence[tuple[Snapshot, Sequence[Mapping[str, Any]]]], options: ExportOptions, client: str = ""
    ) -> AsyncIterator[str]:
        """The path of one searchable PDF of several documents. It lasts as the context does.

        Args:
            parts: documents, each with its pages as they were read.
            options: as `exported` takes them, for all.
            client: who asks; clients take turns.

        Raises:
            BadRequest, OcrError: as `exported`, of any of the documents.
        """
        folder = self._fresh_folder()
        try:
            async with self._exports.turn(client):
                files = [await self._part(folder, number, part, options) for number, part in enumerate(parts)]
                out = os.path.join(folder, "export")
                decoder = await self._spawn()
                try:
                    with _blamed("these documents", EXPORT_TIMEOUT_S):
                        await decoder.call("join", {"files": files, "out": out}, timeout=EXPORT_TIMEOUT_S)
                finally:
                    await decoder.stop()
            yield out
        finally:
            self._remove_soon(folder)

    async def _part(
        self, folder: str, number: int, part: tuple[Snapshot, Sequence[Mapping[str, Any]]], options: ExportOptions
    ) -> dict[str, str]:
        """A searchable PDF of one of several documents, as a decoder is asked for it."""
        snapshot, pages = part
        texts, out = os.path.join(folder, f"pages-{number}.json"), os.path.join(folder, f"part-{number}")
        await anyio.to_thread.run_sync(_write_json, texts, pages)
        await self._export(snapshot, format="pdf", pages=texts, options=asdict(options), out=out)
        return replace(snapshot, path=out).file

    async def _export(self, snapshot: Snapshot | None, **arguments: Any) -> None:
        settings = self._settings
        decoder = await self._spawn()
        try:
            with _blamed("these pages" if snapshot is None else snapshot.name, EXPORT_TIMEOUT_S):
                if snapshot is not None:
                    file = {"file": snapshot.file, "max_pixels": settings.max_pixels}
                    most = {"max_pages": settings.ocr_max_pages}
                    await decoder.call("inspect", file | most, timeout=DECODE_TIMEOUT_S)
                    arguments["document"] = file | {"dpi": settings.ocr_pdf_dpi}
                await decoder.call("export", arguments, timeout=EXPORT_TIMEOUT_S)
        finally:
            await decoder.stop()

    async def _call(self, client: str, what: str, method: str, /, **arguments: Any) -> dict[str, Any]:
        with _blamed(what, DECODE_TIMEOUT_S):
            return await self._ask(client, method, arguments, DECODE_TIMEOUT_S)

    async def _ask(self, client: str, method: str, arguments: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Call the decoder when it is this client's turn.

        An administrator, or a lack of memory, may have killed the decoder. So the call is made once more in a fresh
        one.

        Raises:
            WorkerDied: two decoders have died over this call.
        """
        async with self._turns.turn(client):
            with contextlib.suppress(WorkerDied):
                return await (await self._ready()).call(method, arguments, timeout=timeout)
            return await (await self._ready()).call(method, arguments, timeout=timeout)

    async def _ready(self) -> _Decoder:
        """A decoder that is alive. It is this caller's turn."""
        if self._decoder is not None and self._is_stale:
            await self._decoder.stop()
        self._is_stale = False
        if self._decoder is None or not self._decoder.alive:
            try:
                self._decoder = await self._spawn()
            except OSError as exc:
                raise EngineUnavailable(
                    f"The document decoder cannot be started: {exc.strerror or exc}.",
                    remedy="Free memory or process slots, then try again.",
                ) from None
        return self._decoder

    async def _watch_idle(self) -> None:
        while True:
            self._changed = anyio.Event()
            if self._open == 0 and self._decoder is not None:
                with anyio.move_on_after(IDLE_EXIT_S):
                    await self._changed.wait()
                    continue
                async with self._turns.turn(""):
                    if self._open == 0 and self._decoder is not None:
                        await self._decoder.stop()
                        self._decoder = None
            else:
                await self._changed.wait()
