"""Found by every Python process that has this folder on its path: gives the document decoder a hole.

A file that begins with `%PDF-crash` ends it with SIGSEGV, as a hole in a C library would.
"""

import os
import signal
import sys

if any(argument.endswith("decoder.renderer:PageRenderer") for argument in sys.orig_argv):
    from deepseek_ocr_mcp.decoder import renderer as pages

    _open_document = pages._open_document

    def _opened(path: str, name: str, password: str) -> object:
        with open(path, "rb") as file:
            if file.read(10) == b"%PDF-crash":
                os.kill(os.getpid(), signal.SIGSEGV)
        return _open_document(path, name, password)

    pages._open_document = _opened  # type: ignore[assignment]
