"""An OpenAI-compatible engine without a model: a process of its own that does what it is told.

    python engine_stand_in.py [PORT]     prints {"port": 12345} once it listens

A request says in its body, under `stand_in`, how it wants to be treated; what all requests meet is set by
POST /control and read by GET /control, with what it has seen:

    status      answer with this status
    delay_s     answer after this time
    cut         break off: "at once", or "half" after half of the announced body
    not_json    answer with text
    probe       (control only) status of one-token probes; 0 lets them hang
    running     (control only) requests of others that the metrics page shows as running
    waiting     (control only) and as waiting
    generates   (control only) tokens more at each look at the metrics page
    metrics     (control only) "vllm", "llama.cpp" or "none"
"""

from __future__ import annotations

import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PAGES = {
    "vllm": 'vllm:num_requests_running{{engine="0"}} {running}\nvllm:num_requests_waiting{{engine="0"}} {waiting}\n'
    'vllm:generation_tokens_total{{engine="0"}} {generated}\n',
    "llama.cpp": "llamacpp:requests_processing {running}\nllamacpp:requests_deferred {waiting}\n",
    "none": "",
}


class Engine(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.lock = threading.Lock()
        self.control: dict[str, Any] = {"probe": 200, "running": 0, "waiting": 0, "metrics": "vllm", "generates": 0}
        self.running = 0
        self.most = 0
        self.generated = 0
        self.looks = 0
        self.seen: list[str] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that left is nothing to print."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def engine(self) -> Engine:
        assert isinstance(self.server, Engine)
        return self.server

    def do_GET(self) -> None:
        engine = self.engine
        with engine.lock:
            facts = {
                **engine.control,
                "seen": engine.seen,
                "most": engine.most,
                "now": engine.running,
                "looks": engine.looks,
            }
        if self.path == "/metrics":
            page = PAGES[facts["metrics"]]
            running = facts["now"] + facts["running"]
            with engine.lock:
                engine.looks += 1
                engine.generated += engine.control["generates"]
            text = page.format(running=running, waiting=facts["waiting"], generated=engine.generated)
            self._answer(200 if page else 404, text.encode())
        else:
            self._answer(200, json.dumps(facts).encode())

    def do_POST(self) -> None:
        engine = self.engine
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        body = json.loads(raw)
        if self.path == "/control":
            with engine.lock:
                engine.control.update(body)
            self._answer(200, b"{}")
        elif body.get("max_tokens") == 1:
            self._probe()
        else:
            with engine.lock:
                engine.seen.append(raw.decode())
                engine.running += 1
                engine.most = max(engine.most, engine.running)
                wish = {**engine.control, **body.get("stand_in", {})}
            time.sleep(wish.get("delay_s", 0))
            with engine.lock:  # before the answer: who has it may send the next one at once
                engine.running -= 1
            self._serve(wish)

    def _probe(self) -> None:
        status = self.engine.control["probe"]
        if status == 0:
            time.sleep(3600)
        self._answer(status, b'{"usage": {"completion_tokens": 1}}' if status == 200 else b'{"error": {}}')

    def _serve(self, wish: dict[str, Any]) -> None:
        status = wish.get("status", 200)
        answer = {"id": "cmpl-1", "usage": {"completion_tokens": 7}} if status == 200 else {"error": {"code": status}}
        body = b"not json" if wish.get("not_json") else json.dumps(answer).encode()
        if wish.get("cut") == "at once":
            self.close_connection = True
            return
        if wish.get("cut") == "half":
            self.send_response(status)
            self.send_header("Content-Length", str(2 * len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = True
            return
        self._answer(status, body)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-request-id", "req-of-the-engine")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


if __name__ == "__main__":
    server = Engine(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(json.dumps({"port": server.server_port}), flush=True)
    server.serve_forever(0.1)
