#!/usr/bin/env bash
# An object store holds "in/a" and "in/a/b", which it may: names have no folders.
# A good guess: both libraries call "in/a" a file, since there is an object of that name.
# Seen: s3fs says that it is both, and after a listing that it is a folder only; listing it gives what is below it
# alone. pyarrow's own S3 calls it a file, and pyarrow over s3fs a folder.
. "$(dirname "$0")/common.sh"
python_with s3fs==2026.9.0 moto==5.2.5 flask==3.1.3 flask-cors==6.0.2 boto3==1.43.117 pyarrow==26.0.1
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
python_runs <<'EOF'
import logging

import boto3
import s3fs
from finding import as_described, versions
from moto.server import ThreadedMotoServer
from pyarrow.fs import FSSpecHandler, PyFileSystem, S3FileSystem

versions("s3fs", "pyarrow", "moto")
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
try:
    place = "{}:{}".format(*server.get_host_and_port())
    writer = boto3.client("s3", endpoint_url=f"http://{place}")
    writer.create_bucket(Bucket="papers")
    for key in ("in/a", "in/a/b"):
        writer.put_object(Bucket="papers", Key=key, Body=b"x")
    files = s3fs.S3FileSystem(endpoint_url=f"http://{place}")
    arrow = S3FileSystem(endpoint_override=place, scheme="http")
    as_described("s3fs, file, folder", (files.isfile("papers/in/a"), files.isdir("papers/in/a")), (True, True))
    as_described("s3fs finds", files.find("papers/in"), ["papers/in/a", "papers/in/a/b"])
    as_described("s3fs lists it", files.ls("papers/in/a"), ["papers/in/a/b"])
    as_described("then file, folder", (files.isfile("papers/in/a"), files.isdir("papers/in/a")), (False, True))
    as_described("pyarrow", arrow.get_file_info("papers/in/a").type.name, "File")
    through = PyFileSystem(FSSpecHandler(files)).get_file_info("papers/in/a").type.name
    as_described("pyarrow over s3fs", through, "Directory")
finally:
    server.stop()
EOF
