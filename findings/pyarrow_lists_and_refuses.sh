#!/usr/bin/env bash
# An object's key has two slashes in a row, "in//a.pdf", as scripts that join paths write it.
# A good guess: a library that lists a key can open it.
# Seen: pyarrow lists it and then refuses it: "Empty path component". s3fs lists and opens it.
. "$(dirname "$0")/common.sh"
python_with s3fs==2026.9.0 moto==5.2.5 flask==3.1.3 flask-cors==6.0.2 boto3==1.43.117 pyarrow==26.0.1
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none AWS_DEFAULT_REGION=us-east-1 AWS_EC2_METADATA_DISABLED=true
python_runs <<'EOF'
import logging

import boto3
import s3fs
from finding import as_described, versions
from moto.server import ThreadedMotoServer
from pyarrow.fs import FileSelector, FileType, S3FileSystem

versions("s3fs", "pyarrow", "moto")
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
try:
    place = "{}:{}".format(*server.get_host_and_port())
    writer = boto3.client("s3", endpoint_url=f"http://{place}")
    writer.create_bucket(Bucket="papers")
    writer.put_object(Bucket="papers", Key="in//a.pdf", Body=b"content")
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
finally:
    server.stop()
EOF
