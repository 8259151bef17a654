#!/usr/bin/env bash
# An object's key has two slashes in a row, "in//a.pdf", as scripts that join paths write it.
# A good guess: a library that lists a key can open it.
# Seen: pyarrow lists it and then refuses it: "Empty path component". s3fs lists and opens it.
. "$(dirname "$0")/common.sh"
python_with_store s3fs==2026.9.0 pyarrow==26.0.1
python_runs <<'EOF'
import s3fs
from finding import as_described, object_store, versions
from pyarrow.fs import FileSelector, FileType, S3FileSystem

versions("s3fs", "pyarrow", "moto")
with object_store() as (place, put):
    put("in//a.pdf", b"content")
    arrow = S3FileSystem(endpoint_override=place, scheme="http")
    listed = arrow.get_file_info(FileSelector("papers/in", recursive=True))
    as_described("pyarrow lists", [each.path for each in listed if each.type == FileType.File], ["papers/in//a.pdf"])
    try:
        outcome = arrow.open_input_file("papers/in//a.pdf").read()
    except OSError as error:
        outcome = str(error)
    except ValueError as error:
        outcome = str(error)
    as_described("pyarrow opens", outcome, "Empty path component in path papers/in//a.pdf")
    files = s3fs.S3FileSystem(endpoint_url=f"http://{place}")
    as_described("s3fs lists", files.find("papers/in"), ["papers/in//a.pdf"])
    as_described("s3fs opens", files.open("papers/in//a.pdf").read(), b"content")
EOF
