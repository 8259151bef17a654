#!/usr/bin/env bash
# A folder in an object store is listed; another writer replaces an object; the first program opens it.
# A good guess: it reads the new content (perhaps cut to the old length).
# Seen: s3fs raises FileExpired (EBUSY), "no longer exists", because it asks for the version that it has listed.
# cat() of the same path gives the new content, info() the old size.
. "$(dirname "$0")/common.sh"
python_with_store s3fs==2026.9.0
python_runs <<'EOF'
import s3fs
from finding import as_described, object_store, versions

versions("s3fs", "fsspec", "moto")
with object_store() as (place, put):
    files = s3fs.S3FileSystem(endpoint_url=f"http://{place}")
    put("in/a.pdf", b"first")
    files.ls("papers/in")
    put("in/a.pdf", b"second, longer")
    as_described("info() after the change", files.info("papers/in/a.pdf")["size"], 5)
    try:
        outcome = files.open("papers/in/a.pdf").read()
    except OSError as error:
        outcome = f"{type(error).__name__}, errno {error.errno}"
    as_described("open() after the change", outcome, "FileExpired, errno 16")
    as_described("cat() after the change", files.cat("papers/in/a.pdf"), b"second, longer")
    files.invalidate_cache()
    as_described("open() after invalidate_cache()", files.open("papers/in/a.pdf").read(), b"second, longer")
EOF
