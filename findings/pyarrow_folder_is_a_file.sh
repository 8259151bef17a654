#!/usr/bin/env bash
# pyarrow makes an empty folder in an object store (create_dir), and s3fs looks for files there.
# A good guess: no file is found.
# Seen: pyarrow has written empty objects whose names end with a slash, one for each folder on the way, and
# s3fs.find() gives them as files.
. "$(dirname "$0")/common.sh"
python_with s3fs==2026.9.0 moto==5.2.5 flask==3.1.3 flask-cors==6.0.2 boto3==1.43.117 pyarrow==26.0.1
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
python_runs <<'EOF'
import logging

import boto3
import s3fs
from finding import as_described, versions
from moto.server import ThreadedMotoServer
from pyarrow.fs import S3FileSystem

versions("s3fs", "pyarrow", "moto")
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
try:
    place = "{}:{}".format(*server.get_host_and_port())
    writer = boto3.client("s3", endpoint_url=f"http://{place}")
    writer.create_bucket(Bucket="papers")
    writer.put_object(Bucket="papers", Key="out/a.md", Body=b"x")
    S3FileSystem(endpoint_override=place, scheme="http").create_dir("papers/out/empty")
    files = s3fs.S3FileSystem(endpoint_url=f"http://{place}")
    found = files.find("papers/out", detail=True)
    described = {"papers/out/": "file", "papers/out/a.md": "file", "papers/out/empty/": "file"}
    as_described("s3fs finds", {name: facts["type"] for name, facts in found.items()}, described)
    as_described("its size", found["papers/out/empty/"]["size"], 0)
finally:
    server.stop()
EOF
