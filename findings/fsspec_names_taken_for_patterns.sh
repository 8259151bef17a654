#!/usr/bin/env bash
# A program lists an object store, and gives names that it has found to cat(…) or rm(…), in a list.
# A good guess: names that were listed are names: each is read, or deleted, or the call fails.
# Seen: a name with brackets or a question mark is a pattern. cat() leaves out "a [1].txt" without a word, and rm() of
# "a?.txt" deletes "a1.txt", too. cat_file() and rm_file() take names.
. "$(dirname "$0")/common.sh"
python_with_store s3fs==2026.9.0 fsspec==2026.9.0
python_runs <<'EOF'
import s3fs
from finding import as_described, object_store, versions

versions("s3fs", "fsspec", "moto")
with object_store() as (place, put):
    files = s3fs.S3FileSystem(endpoint_url=f"http://{place}", use_listings_cache=False)
    for name in ("a [1].txt", "a1.txt", "a?.txt", "b.txt"):
        put(f"in/{name}", name.encode())

    def left():
        return [path.rpartition("/")[2] for path in sorted(files.find("papers/in"))]

    found = files.find("papers/in")
    as_described("files that are found", len(found), 4)
    as_described("of which cat() gives", len(files.cat(found)), 3)
    as_described("cat_file() of the fourth", files.cat_file("papers/in/a [1].txt"), b"a [1].txt")
    files.rm(["papers/in/a?.txt"])
    as_described("after rm() of one", left(), ["a [1].txt", "b.txt"])
    files.rm_file("papers/in/a [1].txt")
    as_described("after rm_file() of another", left(), ["b.txt"])
EOF
