#!/usr/bin/env bash
# One process runs a web server, is told to stop by a signal, and starts a server again, as a supervisor inside a program does.
# A good guess: the new server is as good as the first. Its other answers are.
# Seen: sse-starlette keeps for the whole process that a signal came: each stream of events of each later server has status 200
# and is cut off at its first events, without the end of a chunked body. A server that was stopped otherwise leaves no trace.
. "$(dirname "$0")/common.sh"
python_with sse-starlette==3.7.0 starlette==1.10.0 uvicorn==0.54.0
python_runs <<'EOF'
import asyncio
import http.client
import os
import signal
import socket

import uvicorn
from finding import as_described, versions
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

versions("sse-starlette", "starlette", "uvicorn")


async def five():
    for number in range(5):
        yield f"{number}"
        await asyncio.sleep(0.05)


def events(request):
    return EventSourceResponse(five())


def plain(request):
    return StreamingResponse(five())


app = Starlette(routes=[Route("/events", events), Route("/plain", plain)])


def answer(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    response = connection.getresponse()
    try:
        return response.status, response.read().count(b"data: ") or "whole"
    except http.client.IncompleteRead as error:
        return response.status, "cut" if error.partial.count(b"data: ") < 5 else "only its end is cut"


async def serve(stop):
    """Run a server, ask it twice, and stop it."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        running = asyncio.create_task(server.serve([listener]))
        while not server.started:
            await asyncio.sleep(0.02)
        port = listener.getsockname()[1]
        answers = [await asyncio.to_thread(answer, port, path) for path in ("/events", "/plain")]
        stop(server)
        await running
        return answers


def by_flag(server):
    server.should_exit = True


def by_signal(server):
    os.kill(os.getpid(), signal.SIGTERM)


signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn hands the signal on to this when it has stopped
sound, cut = [(200, 5), (200, "whole")], [(200, "cut"), (200, "whole")]
as_described("the first server", asyncio.run(serve(by_flag)), sound)
as_described("after one that was stopped by a flag", asyncio.run(serve(by_signal)), sound)
as_described("after one that was stopped by a signal", asyncio.run(serve(by_flag)), cut)
as_described("and all later ones", asyncio.run(serve(by_flag)), cut)
EOF
