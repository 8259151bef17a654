#!/usr/bin/env bash
# A chat message has a picture by its address (http://…), and LiteLLM hands it to Ollama, whose API takes base64 only.
# A good guess: LiteLLM fetches the picture, or refuses the message.
# Seen: it sends the address itself where the base64 belongs. A data: URL is converted as it should be.
. "$(dirname "$0")/common.sh"
python_with litellm==1.110.2
export LITELLM_LOCAL_MODEL_COST_MAP=True
python_runs <<'EOF'
import http.server
import json
import os
import sys
import threading

from finding import as_described, versions

bodies, fetched = [], []


class Ollama(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        fetched.append(self.path)
        self.answer(b"\x89PNG\r\n\x1a\n", "image/png")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/api/chat":
            bodies.append(body)
        answer = {"model": "m", "message": {"role": "assistant", "content": "read"}, "done": True, "done_reason": "stop",
                  "prompt_eval_count": 1, "eval_count": 1}
        self.answer(json.dumps(answer).encode(), "application/json")

    def answer(self, data, kind):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ollama)
threading.Thread(target=server.serve_forever, daemon=True).start()
address = f"http://127.0.0.1:{server.server_port}"

import litellm

versions("litellm")


def pictures_for(url):
    content = [{"type": "text", "text": "read"}, {"type": "image_url", "image_url": {"url": url}}]
    messages = [{"role": "user", "content": content}]
    litellm.completion(model="ollama_chat/m", api_base=address, messages=messages)
    return [picture.replace(address, "ADDRESS") for picture in bodies[-1]["messages"][0]["images"]]


as_described("a data: URL", pictures_for("data:image/png;base64,iVBORw0KGgo="), ["iVBORw0KGgo="])
as_described("an address", pictures_for(f"{address}/page.png"), ["ADDRESS/page.png"])
as_described("fetched by LiteLLM", fetched, [])
sys.stdout.flush()
os._exit(0)  # LiteLLM leaves a thread that never ends
EOF
