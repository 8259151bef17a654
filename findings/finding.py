"""What the findings share: a way to state a behaviour, an object store, and PDF files by hand."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version

__all__ = ["PDF_FONT", "as_described", "character_map", "object_store", "pdf", "stream", "versions"]

PDF_FONT = "/F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"


def versions(*packages: str) -> None:
    """Print the versions that run, in one line."""
    print(", ".join(f"{package} {version(package)}" for package in packages))


def as_described(what: str, seen: object, described: object) -> None:
    """State one behaviour. The finding ends with exit status 1 where it is not the one described."""
    print(f"{what}: {seen!r}")
    if seen != described:
        print(f"CHANGED, it was: {described!r}")
        sys.exit(1)


@contextmanager
def object_store() -> Iterator[tuple[str, Callable[[str, bytes], object]]]:
    """moto's S3 server in this process, with a bucket named "papers". Needs `python_with_store` of common.sh.

    Yields:
        Its address, as host:port, and a function that writes an object: (key, content).
    """
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        place = "{}:{}".format(*server.get_host_and_port())
        writer = boto3.client("s3", endpoint_url=f"http://{place}")
        writer.create_bucket(Bucket="papers")
        yield place, lambda key, content: writer.put_object(Bucket="papers", Key=key, Body=content)
    finally:
        server.stop()


def stream(data: str | bytes, entries: str = "") -> bytes:
    """A stream object of a PDF."""
    data = data.encode("latin-1") if isinstance(data, str) else data
    return f"<< /Length {len(data)} {entries} >>\nstream\n".encode() + data + b"\nendstream"


def character_map(body: str) -> bytes:
    """A ToUnicode stream for one-byte codes, from its bfchar and bfrange sections."""
    return stream(
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /X def /CMapType 2 def\n"
        f"1 begincodespacerange <00> <FF> endcodespacerange\n{body}\nendcmap end end"
    )


def pdf(
    content: str,
    *,
    fonts: str = PDF_FONT,
    resources: str = "",
    page: str = "",
    catalog: str = "",
    objects: Mapping[int, str | bytes] | None = None,
) -> bytes:
    """A PDF of one page of 400 by 200 points.

    Args:
        content: the page's content stream.
        fonts: entries of its font dictionary.
        resources: further entries of its resources.
        page: further entries of the page.
        catalog: further entries of the document's catalog.
        objects: objects of your own, numbered from 8.
    """
    blocks: dict[int, str | bytes] = {
        1: f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        2: "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        3: f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 200] {page} /Contents 4 0 R "
        f"/Resources << /Font << {fonts} >> {resources} >> >>",
        4: stream(content),
        **(objects or {}),
    }
    body, offsets = b"%PDF-1.7\n", {}
    for number, block in sorted(blocks.items()):
        offsets[number] = len(body)
        block = block.encode("latin-1") if isinstance(block, str) else block
        body += f"{number} 0 obj\n".encode() + block + b"\nendobj\n"
    table = "".join(f"{number} 1\n{offset:010} 00000 n \n" for number, offset in offsets.items())
    trailer = f"trailer\n<< /Root 1 0 R /Size {max(blocks) + 1} >>\nstartxref\n{len(body)}\n%%EOF\n"
    return body + f"xref\n0 1\n0000000000 65535 f \n{table}{trailer}".encode()
