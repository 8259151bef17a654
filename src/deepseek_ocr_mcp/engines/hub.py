"""Finds a model on this machine and fetches it from the hub. A folder that it names is complete.

Imported by the parent, so only the standard library at module level: a model is looked up by the on-disk
layout of Hugging Face's cache. Only files that are read are fetched, by name, and none of them is code. What
a broken transfer left is kept, and the next call goes on from there: huggingface_hub itself starts a file
again in every new process, and the weights are one file of 6.8 GB.

Variables of the hub that are honoured: HF_HOME, HF_HUB_CACHE, HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN (or the
token that `hf auth login` kept), HF_HUB_DOWNLOAD_TIMEOUT, HTTPS_PROXY and its like.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from ..errors import BadRequest, Busy, EngineUnavailable
from ..install import extra_command
from .safetensors_header import read_header
from .vision_models import model_named

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

__all__ = ["cache_folders", "download", "resolve_model"]


RECOMMENDED: Final = " or ".join(model_named(name).repositories[0] for name in ("DeepSeek-OCR-2", "DeepSeek-OCR"))
DEFAULT_ENDPOINT: Final = "https://huggingface.co"

INDEX: Final = "model.safetensors.index.json"
SINGLE: Final = "model.safetensors"
NEEDED: Final = ("config.json", "tokenizer.json")
READ_TOO: Final = (
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "processor_config.json",
    "preprocessor_config.json",
    "chat_template.jinja",
)
WEIGHTS: Final = re.compile(r"model(-\d+-of-\d+)?\.safetensors")
HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
DIGEST: Final = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")  # a git object (SHA-1), or a large file (SHA-256)

CHUNK: Final = 1 << 20  # bytes read from the disk at a time
SPARE: Final = 256 << 20  # bytes that stay free on the disk
ATTEMPTS: Final = 5  # in a row that brought no byte
RETRY_S: Final = 1.0  # before the second attempt; doubles with each
METADATA_TIMEOUT_S: Final = 20.0
TELL_EVERY_S: Final = 0.1

OnProgress = Callable[[int, int], None]
"""Called with the bytes that are here and the bytes there will be."""

AGAIN: Final = "Run deepseek-ocr-mcp download again: it goes on where it stopped."


def resolve_model(model: str) -> Path | None:
    """The folder of a model that is complete on this machine; None where it is not.

    Args:
        model: a folder, or a hub id such as `deepseek-ai/DeepSeek-OCR`, which is looked up in the cache: the
            snapshot that `main` names, or else the newest that is complete.
    """
    folder = Path(model).expanduser()
    if model and _complete(folder):
        return folder.resolve()
    if not HUB_ID.fullmatch(model):
        return None
    repository = _repository(model)
    for snapshot in _snapshots(repository):
        if _complete(snapshot):
            return snapshot
    return None


def cache_folders() -> tuple[Path, ...]:
    """Where derived files of ours may be kept, best first: in the hub's home, then in the user's cache."""
    folders = (_hf_home() / "deepseek-ocr-mcp", _user_cache() / "deepseek-ocr-mcp")
    return tuple(dict.fromkeys(folders))


def _user_cache() -> Path:
    return _folder(os.environ.get("XDG_CACHE_HOME") or "~/.cache")


def _hf_home() -> Path:
    home = os.environ.get("HF_HOME")
    return _folder(home) if home else _user_cache() / "huggingface"


def _hub_cache() -> Path:
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return _folder(cache) if cache else _hf_home() / "hub"


def _folder(name: str) -> Path:
    return Path(os.path.expandvars(os.path.expanduser(name)))


def _repository(model: str) -> Path:
    return _hub_cache() / ("models--" + model.replace("/", "--"))


def _snapshots(repository: Path) -> list[Path]:
    """The snapshot of `main` first, then the others, newest first."""
    try:
        found = sorted((repository / "snapshots").iterdir(), key=lambda path: -path.stat().st_mtime_ns)
    except OSError:
        return []
    with contextlib.suppress(OSError):
        main = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
        found.sort(key=lambda path: path.name != main)
    return found


def _complete(folder: Path) -> bool:
    """Whether everything that is read is in the folder, each file of weights as long as its header says."""
    try:
        if not all((folder / name).is_file() for name in NEEDED):
            return False
        names = [SINGLE]
        if (folder / INDEX).is_file():
            index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            names = sorted(set(index["weight_map"].values()))
        return bool(names) and all(_whole(folder / name) for name in names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _whole(file: Path) -> bool:
    return read_header(file).is_whole


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file as the hub describes it."""

    name: str
    size: int
    digest: str
    large: bool
    """Whether `digest` is the SHA-256 of its content; else it is git's object id."""


def download(model: str, *, to: str | Path | None = None, on_progress: OnProgress | None = None) -> Path:
    """Fetch a model, or the missing part of it. Returns its folder.

    Args:
        model: a hub id. A folder that holds a model is returned as it is.
        to: the folder to put the files in; None: the hub's cache, in its own layout.
        on_progress: called with bytes done and bytes in all, ten times a second at most. What it raises
            ends the download, and what was fetched stays.

    Raises:
        BadRequest: `model` is no hub id.
        Busy: another process fetches the same model to the same place.
        EngineUnavailable: the hub cannot be reached or refuses, the disk is short, offline mode is on, or
            huggingface_hub is not installed; the remedy says which.
    """
    if to is None and (here := resolve_model(model)) is not None and not HUB_ID.fullmatch(model):
        return here
    if not HUB_ID.fullmatch(model):
        raise BadRequest(
            f"{model!r} is neither a hub id nor a folder with a complete model.",
            remedy=f"Name one such as {RECOMMENDED}.",
        )
    if _offline():
        if to is None and (here := resolve_model(model)) is not None:
            return here
        raise EngineUnavailable(
            f"{model} is not on this machine and HF_HUB_OFFLINE forbids to fetch it.",
            remedy="Unset HF_HUB_OFFLINE, or set OCR_MODEL to a folder with the model.",
        )
    _require_package()
    endpoint = _endpoint()
    with _explained(model, endpoint):
        try:
            commit, files = _listing(model, endpoint)
        except Exception as exc:
            if to is None and _unreachable(exc) and (here := resolve_model(model)) is not None:
                return here
            raise
        place = _InFolder(Path(to).expanduser()) if to is not None else _InCache(_repository(model), commit)
        with place.lock():
            _fetch_all(place, files, f"{endpoint}/{model}/resolve/{commit}", on_progress)
            place.finish()
    if not _complete(place.folder):
        raise EngineUnavailable(
            f"The files of {model} at {endpoint} are no complete model.",
            remedy=f"Use {RECOMMENDED}.",
        )
    return place.folder


def _offline() -> bool:
    values = (os.environ.get("HF_HUB_OFFLINE") or "", os.environ.get("TRANSFORMERS_OFFLINE") or "")
    return any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values)


def _endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def _require_package() -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as exc:
        raise EngineUnavailable(
            "Fetching models needs the package huggingface_hub.",
            remedy=f"Run: {extra_command('gpu')}",
        ) from exc


def _listing(model: str, endpoint: str) -> tuple[str, list[_Remote]]:
    """The commit of `main` and the files of it that are read."""
    from huggingface_hub import HfApi

    info: ModelInfo = HfApi(endpoint=endpoint, library_name="deepseek-ocr-mcp").model_info(
        model, files_metadata=True, timeout=METADATA_TIMEOUT_S
    )
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    names = [name for name in siblings if name in (*NEEDED, *READ_TOO, INDEX) or WEIGHTS.fullmatch(name)]
    if INDEX in names and SINGLE in names:
        names.remove(SINGLE)  # the same weights once more
    files = []
    for name in names:
        sibling = siblings[name]
        digest = sibling.lfs.sha256 if sibling.lfs else sibling.blob_id or ""
        size = sibling.lfs.size if sibling.lfs else sibling.size
        if size is None or not DIGEST.fullmatch(digest):
            raise EngineUnavailable(
                f"{endpoint} does not tell the size and hash of {name}.", remedy="Set HF_ENDPOINT to another mirror."
            )
        files.append(_Remote(name, size, digest, large=sibling.lfs is not None))
    missing = [name for name in NEEDED if name not in names]
    if not any(WEIGHTS.fullmatch(name) for name in names):
        missing.append("*.safetensors")
    if missing or not DIGEST.fullmatch(info.sha or ""):
        raise EngineUnavailable(
            f"{model} has no {' and no '.join(missing) or 'commit'}: it is no model that is read here.",
            remedy=f"Use {RECOMMENDED}.",
        )
    return str(info.sha), sorted(files, key=lambda file: file.size)


class _DownloadTarget:
    """Where files go: a file's finished form, and where its first part is kept meanwhile."""

    folder: Path

    def lock_file(self) -> Path:
        raise NotImplementedError

    def finished(self, file: _Remote) -> bool:
        raise NotImplementedError

    def partial(self, file: _Remote) -> Path:
        raise NotImplementedError

    def accept(self, file: _Remote) -> None:
        """Take the finished `partial(file)`."""
        raise NotImplementedError

    def finish(self) -> None:
        """Everything is here."""

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held by one process at a time: two would write the same partial file."""
        from filelock import FileLock, Timeout

        file = self.lock_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise Busy(
                f"Another process is fetching the model to {self.folder}.", remedy="Wait until it is done."
            ) from None
        try:
            yield
        finally:
            lock.release()


class _InFolder(_DownloadTarget):
    """A plain folder; the first part of a file carries its digest, so that it never goes on as another's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    def lock_file(self) -> Path:
        return self.folder / ".download.lock"

    def finished(self, file: _Remote) -> bool:
        target = self.folder / file.name
        if not target.is_file() or target.stat().st_size != file.size:
            return False
        # Weights are not hashed again for a question: a file gets its name only after its hash was right.
        return file.large or _git_digest(target) == file.digest

    def partial(self, file: _Remote) -> Path:
        return self.folder / f"{file.name}.{file.digest[:12]}.part"

    def accept(self, file: _Remote) -> None:
        os.replace(self.partial(file), self.folder / file.name)


class _InCache(_DownloadTarget):
    """The hub's own layout: `blobs/DIGEST`, `snapshots/COMMIT/NAME` pointing there, `refs/main`."""

    def __init__(self, repository: Path, commit: str) -> None:
        self._repository = repository
        self._commit = commit
        self.folder = repository / "snapshots" / commit

    def lock_file(self) -> Path:
        return self._repository.parent / ".locks" / self._repository.name / "deepseek-ocr-mcp.lock"

    def finished(self, file: _Remote) -> bool:
        pointer, blob = self.folder / file.name, self._blob(file)
        if pointer.is_file() and pointer.stat().st_size == file.size:
            return True
        if blob.is_file() and blob.stat().st_size == file.size:
            self._point(file)
            return True
        return False

    def partial(self, file: _Remote) -> Path:
        return self._repository / "blobs" / f"{file.digest}.deepseek-ocr-mcp.incomplete"

    def accept(self, file: _Remote) -> None:
        os.replace(self.partial(file), self._blob(file))
        self._point(file)

    def finish(self) -> None:
        reference = self._repository / "refs" / "main"
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text(self._commit, encoding="utf-8")

    def _blob(self, file: _Remote) -> Path:
        return self._repository / "blobs" / file.digest

    def _point(self, file: _Remote) -> None:
        pointer = self.folder / file.name
        pointer.parent.mkdir(parents=True, exist_ok=True)
        pointer.unlink(missing_ok=True)
        try:
            pointer.symlink_to(Path("..", "..", "blobs", file.digest))
        except OSError:  # Windows without the right to make links: the hub keeps the file itself there
            os.replace(self._blob(file), pointer)


def _git_digest(file: Path) -> str:
    content = file.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _BytesReport:
    """Counts bytes and reports them, ten times a second at most."""

    def __init__(self, total: int, tell: OnProgress | None) -> None:
        self.done, self._total, self._tell, self._reported_s = 0, total, tell, 0.0

    def add(self, count: int) -> None:
        self.done += count
        if time.monotonic() - self._reported_s >= TELL_EVERY_S:
            self.say()

    def say(self) -> None:
        self._reported_s = time.monotonic()
        if self._tell is not None:
            self._tell(self.done, self._total)


def _fetch_all(place: _DownloadTarget, files: list[_Remote], base: str, on_progress: OnProgress | None) -> None:
    progress = _BytesReport(sum(file.size for file in files), on_progress)
    todo = []
    for file in files:
        if place.finished(file):
            progress.done += file.size
        else:
            todo.append(file)
    if todo:
        parts = [place.partial(file) for file in todo]
        parts[0].parent.mkdir(parents=True, exist_ok=True)
        kept = sum(part.stat().st_size for part in parts if part.is_file())
        _check_disk(place.folder, parts[0].parent, sum(file.size for file in todo) - kept)
    progress.say()
    for file in todo:
        _fetch(f"{base}/{file.name}", place.partial(file), file, progress)
        place.accept(file)
    progress.say()


def _check_disk(folder: Path, disk: Path, need: int) -> None:
    free = shutil.disk_usage(disk).free
    if need > 0 and free < need + SPARE:
        raise _disk_short(f"{folder} has {free / 1e9:.1f} GB free; {(need + SPARE) / 1e9:.1f} GB are needed.")


def _disk_short(message: str) -> EngineUnavailable:
    return EngineUnavailable(message, remedy="Free the space, or choose another disk: HF_HOME, or download --to DIR.")


@dataclass(slots=True)
class _PartialFile:
    """A file on its way: its first part, and the hash of that part."""

    out: BinaryIO
    size: int
    """The bytes that the file will have."""
    progress: _BytesReport
    have: int = 0
    hasher: Any = field(default_factory=hashlib.sha256)

    def take_what_is_here(self) -> None:
        """Hash the part that an earlier attempt left; a part longer than the file is thrown away."""
        if self.out.seek(0, os.SEEK_END) > self.size:
            self.out.truncate(0)
        self.out.seek(0)
        while block := self.out.read(CHUNK):
            self.hasher.update(block)
            self.have += len(block)
        self.progress.add(self.have)

    def add(self, blocks: Iterator[bytes | None]) -> None:
        """Append the bytes that arrive, until they end or are more than the file can have."""
        for block in blocks:
            if block is None:  # the server starts at the beginning, whatever it was asked
                self.out.truncate(0)
                self.progress.add(-self.have)
                self.have, self.hasher = 0, hashlib.sha256()
                continue
            self.out.write(block)
            self.hasher.update(block)
            self.have += len(block)
            self.progress.add(len(block))
            if self.have > self.size:
                return


def _fetch(url: str, part: Path, file: _Remote, progress: _BytesReport) -> None:
    """Bring `part` to the file's full length, whatever it has already, and check it.

    A break is taken up `ATTEMPTS` times in a row; any byte that arrives starts the count anew.

    Args:
        url: of the whole file.
        part: where the first part of it is kept.
        file: what the hub says of it.
        progress: learns of every byte.
    """
    with part.open("ab+") as out:
        partial = _PartialFile(out, file.size, progress)
        partial.take_what_is_here()
        failures = 0
        while partial.have < file.size:
            before = partial.have
            error: Exception | None = None
            try:
                partial.add(_blocks(url, before))
            except Exception as exc:
                error = exc
            failures = 1 if partial.have > before else failures + 1
            if error is not None and (failures >= ATTEMPTS or not _passing(error)):
                raise error
            if partial.have < file.size:
                if failures >= ATTEMPTS:
                    raise _broken(file, "ended early, again and again")
                time.sleep(RETRY_S * 2 ** (failures - 1))
        out.flush()
        os.fsync(out.fileno())
    if partial.have != file.size or (file.large and partial.hasher.hexdigest() != file.digest):
        part.unlink()
        raise _broken(file, "is not what the hub announced, by size or SHA-256; it was thrown away")


def _broken(file: _Remote, what: str) -> EngineUnavailable:
    return EngineUnavailable(f"The download of {file.name} {what}.", remedy=AGAIN)


def _blocks(url: str, start: int) -> Iterator[bytes | None]:
    """The bytes of `url` from `start`; None first where the server does not know how to start there."""
    import huggingface_hub.utils
    from huggingface_hub import constants

    hub: Any = huggingface_hub.utils
    headers = hub.build_hf_headers(library_name="deepseek-ocr-mcp") | {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    session = hub.get_session()  # follows redirects, and takes the token along to the same host only
    with session.stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
        hub.hf_raise_for_status(response)
        ranged = response.headers.get("Content-Range", "")
        if start and (response.status_code != 206 or not ranged.startswith(f"bytes {start}-")):
            if response.status_code == 206:
                raise EngineUnavailable(f"{url} sent another part of the file than the one requested.", remedy=AGAIN)
            yield None
        yield from response.iter_bytes()  # as they come: bytes that wait to fill a block are lost in a break


def _status(exc: BaseException) -> int | None:
    """The HTTP status in an error of huggingface_hub."""
    status = getattr(getattr(exc, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _unreachable(exc: BaseException) -> bool:
    """Whether nothing answered: errors of the HTTP client below huggingface_hub, whichever that is."""
    if _status(exc) is not None:
        return False
    return type(exc).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2") or isinstance(
        exc, ConnectionError | TimeoutError
    )


def _passing(exc: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    status = _status(exc)
    return _unreachable(exc) if status is None else status in (408, 429) or status >= 500


@contextmanager
def _explained(model: str, endpoint: str) -> Iterator[None]:
    """Every failure as an `EngineUnavailable` that says what to do about it."""
    try:
        yield
    except (EngineUnavailable, Busy):
        raise
    except Exception as exc:
        known = _explain(exc, model, endpoint)
        if known is None:
            raise
        raise known from exc


def _explain(exc: Exception, model: str, endpoint: str) -> EngineUnavailable | None:
    status = _status(exc)
    page = f"{endpoint}/{model}"
    if status == 403 or type(exc).__name__ == "GatedRepoError":
        return EngineUnavailable(
            f"{endpoint} keeps {model} for those who accepted its conditions ({status}).",
            remedy=f"Accept them at {page}, then set HF_TOKEN to a token of that account.",
        )
    if status == 401:
        return EngineUnavailable(
            f"{endpoint} has no {model}, or shows it to known accounts only (401).",
            remedy="Check the name. If the model is private, set HF_TOKEN; if HF_TOKEN is wrong, unset it.",
        )
    if status == 404:
        return EngineUnavailable(
            f"{endpoint} has no {model} (404).",
            remedy=f"Check the name: {RECOMMENDED}.",
        )
    if status is not None:
        return EngineUnavailable(f"{endpoint} answered {status} for {model}.", remedy=f"Wait a minute. {AGAIN}")
    if _unreachable(exc):
        return EngineUnavailable(
            f"{endpoint} cannot be reached: {_first_line(exc)}.",
            remedy=f"Check the network, HTTPS_PROXY, or name a mirror with HF_ENDPOINT. {AGAIN}",
        )
    if isinstance(exc, OSError):
        if exc.errno in (errno.ENOSPC, errno.EDQUOT):
            return _disk_short("The disk is full; what was fetched is kept.")
        return EngineUnavailable(
            f"The model cannot be stored: {_first_line(exc)}.",
            remedy="Choose a folder that you may write: HF_HOME, or download --to DIR.",
        )
    return None


def _first_line(exc: BaseException) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0].rstrip(".")
