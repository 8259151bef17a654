#!/usr/bin/env bash
# A folder in an object store is listed; another writer replaces an object; the first program opens it.
# A good guess: it reads the new content (perhaps cut to the old length).
# Seen: s3fs raises FileExpired (EBUSY), "no longer exists", because it asks for the version that it has listed.
# cat() of the same path gives the new content, info() the old size.
. "$(dirname "$0")/common.sh"
python_with s3fs==2026.9.0 moto==5.2.5 flask==3.1.3 flask-cors==6.0.2 boto3==1.43.117
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
python_runs <<'EOF'
import logging

import boto3
import s3fs
from finding import as_described, versions
from moto.server import ThreadedMotoServer

versions("s3fs", "fsspec", "moto")
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
try:
    address = "http://{}:{}".format(*server.get_host_and_port())
    writer = boto3.client("s3", endpoint_url=address)
    writer.create_bucket(Bucket="papers")
    files = s3fs.S3FileSystem(endpoint_url=address)
    writer.put_object(Bucket="papers", Key="in/a.pdf", Body=b"first")
    files.ls("papers/in")
    writer.put_object(Bucket="papers", Key="in/a.pdf", Body=b"second, longer")
    as_described("info() after the change", files.info("papers/in/a.pdf")["size"], 5)
    try:
        outcome = files.open("papers/in/a.pdf").read()
    except OSError as error:
        outcome = f"{type(error).__name__}, errno {error.errno}"
    as_described("open() after the change", outcome, "FileExpired, errno 16")
    as_described("cat() after the change", files.cat("papers/in/a.pdf"), b"second, longer")
    files.invalidate_cache()
    as_described("open() after invalidate_cache()", files.open("papers/in/a.pdf").read(), b"second, longer")
finally:
    server.stop()
EOF
