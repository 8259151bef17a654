#!/usr/bin/env bash
# A prefix of an object store holds 2,500 objects; is it a folder?
# A good guess: isdir() asks as little as exists() and info(): two small requests, for any number of objects.
# Seen: isdir() lists the whole prefix, a request for each thousand objects (a thousand requests for a million), and
# keeps all of it in memory.
. "$(dirname "$0")/common.sh"
python_with_store s3fs==2026.9.0
python_runs <<'EOF'
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import s3fs
from finding import as_described, object_store, versions

versions("s3fs", "fsspec", "moto")
OBJECTS = 2500
with object_store() as (place, put):
    with ThreadPoolExecutor(4) as writers:
        list(writers.map(lambda n: put(f"in/{n:04}.pdf", b"x"), range(OBJECTS)))

    def asked(name):
        """The requests of one question, and how many entries are kept."""
        files = s3fs.S3FileSystem(endpoint_url=f"http://{place}", skip_instance_cache=True)
        files.connect()
        seen = Counter()
        files.s3.meta.events.register("request-created.s3", lambda operation_name, **_: seen.update([operation_name]))
        assert getattr(files, name)("papers/in")
        return dict(seen), len(files.dircache.get("papers/in", ()))

    few = {"HeadObject": 1, "ListObjectsV2": 1}
    as_described("exists()", asked("exists"), (few, 0))
    as_described("info()", asked("info"), (few, 0))
    as_described("isdir()", asked("isdir"), ({"ListObjectsV2": 3}, OBJECTS))
EOF
