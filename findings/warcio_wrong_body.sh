#!/usr/bin/env bash
# warcio's content_stream() gives the body of a page in a WARC file, freed of its codings: here as a crawler stored it that
# keeps what was sent.
# A good guess: what an HTTP client gives. Names of codings are written in any case, fields may follow the last chunk, and
# a gzip body may have several members.
# Seen: "Chunked" and "x-gzip" are not undone, fields behind the last chunk are in the body (their first letters are lost),
# and of several gzip members the first is given alone. Nothing is raised.
. "$(dirname "$0")/common.sh"
python_with warcio==1.8.1 urllib3==2.5.0
python_runs <<'EOF'
import gzip
import http.server
import io
import threading

import urllib3
from finding import as_described, versions
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

versions("warcio", "urllib3")
CHUNKED = b"5\r\nhello\r\n0\r\n\r\n"
CASES = {
    "chunked": ("Transfer-Encoding", "chunked", CHUNKED, b"hello"),
    "Chunked": ("Transfer-Encoding", "Chunked", CHUNKED, CHUNKED),
    "fields behind": ("Transfer-Encoding", "chunked", b"5\r\nhello\r\n0\r\nX-A: b\r\n\r\n", b"hello0\r\nA: b\r\n\r\n"),
    "gzip": ("Content-Encoding", "gzip", gzip.compress(b"hello", mtime=0), b"hello"),
    "x-gzip": ("Content-Encoding", "x-gzip", gzip.compress(b"hello", mtime=0), gzip.compress(b"hello", mtime=0)),
    "two members": ("Content-Encoding", "gzip", gzip.compress(b"hel") + gzip.compress(b"lo"), b"hel"),
}


class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name, value, body, _ = list(CASES.values())[int(self.path[1:])]
        self.send_response(200)
        self.send_header(name, value)
        if name == "Content-Encoding":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def by_warcio(name, value, body, _):
    file = io.BytesIO()
    writer = WARCWriter(file, gzip=True)
    headers = StatusAndHeaders("200 OK", [(name, value)], protocol="HTTP/1.1")
    record = writer.create_warc_record("http://e.org/", "response", payload=io.BytesIO(body), http_headers=headers)
    writer.write_record(record)
    file.seek(0)
    return [record.content_stream().read() for record in ArchiveIterator(file)]


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
for number, (title, case) in enumerate(CASES.items()):
    answer = urllib3.request("GET", f"http://127.0.0.1:{server.server_port}/{number}", timeout=30, retries=False)
    as_described(f"{title}, by urllib3", answer.data, b"hello")
    as_described(f"{title}, by warcio", by_warcio(*case), [case[-1]])
server.shutdown()
EOF
