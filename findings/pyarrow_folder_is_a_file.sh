#!/usr/bin/env bash
# pyarrow makes an empty folder in an object store (create_dir), and s3fs looks for files there.
# A good guess: no file is found.
# Seen: pyarrow has written empty objects whose names end with a slash, one for each folder on the way, and
# s3fs.find() gives them as files.
. "$(dirname "$0")/common.sh"
python_with_store s3fs==2026.9.0 pyarrow==26.0.1
python_runs <<'EOF'
import s3fs
from finding import as_described, object_store, versions
from pyarrow.fs import S3FileSystem

versions("s3fs", "pyarrow", "moto")
with object_store() as (place, put):
    put("out/a.md", b"x")
    S3FileSystem(endpoint_override=place, scheme="http").create_dir("papers/out/empty")
    files = s3fs.S3FileSystem(endpoint_url=f"http://{place}")
    found = files.find("papers/out", detail=True)
    described = {"papers/out/": "file", "papers/out/a.md": "file", "papers/out/empty/": "file"}
    as_described("s3fs finds", {name: facts["type"] for name, facts in found.items()}, described)
    as_described("its size", found["papers/out/empty/"]["size"], 0)
EOF
