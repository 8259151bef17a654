#!/usr/bin/env bash
# An object store holds "in/a" and "in/a/b", which it may: names have no folders.
# A good guess: both libraries call "in/a" a file, since there is an object of that name.
# Seen: s3fs says that it is both, and after a listing that it is a folder only; listing it gives what is below it
# alone. pyarrow's own S3 calls it a file, and pyarrow over s3fs a folder.
. "$(dirname "$0")/common.sh"
python_with_store s3fs==2026.9.0 pyarrow==26.0.1
python_runs <<'EOF'
import s3fs
from finding import as_described, object_store, versions
from pyarrow.fs import FSSpecHandler, PyFileSystem, S3FileSystem

versions("s3fs", "pyarrow", "moto")
with object_store() as (place, put):
    for key in ("in/a", "in/a/b"):
        put(key, b"x")
    files = s3fs.S3FileSystem(endpoint_url=f"http://{place}")
    arrow = S3FileSystem(endpoint_override=place, scheme="http")
    as_described("s3fs, file, folder", (files.isfile("papers/in/a"), files.isdir("papers/in/a")), (True, True))
    as_described("s3fs finds", files.find("papers/in"), ["papers/in/a", "papers/in/a/b"])
    as_described("s3fs lists it", files.ls("papers/in/a"), ["papers/in/a/b"])
    as_described("then file, folder", (files.isfile("papers/in/a"), files.isdir("papers/in/a")), (False, True))
    as_described("pyarrow", arrow.get_file_info("papers/in/a").type.name, "File")
    through = PyFileSystem(FSSpecHandler(files)).get_file_info("papers/in/a").type.name
    as_described("pyarrow over s3fs", through, "Directory")
EOF
