"A server on loopback for tests: routes are values or functions, requests are kept."
import json, socket
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass
class Request:
    method: str
    target: str     # path and query, as they came
    headers: Any
    body: bytes
    handler: Any    # to answer by hand: write to `handler.wfile`

    @property
    def path(self): return urlsplit(self.target).path

    @property
    def query(self): return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def json(self): return json.loads(self.body)


class LocalServer:
    """`with LocalServer({"/cars": [1, 2], "/echo": lambda request: (201, {"X": "y"}, b"...")}) as server: fetch(server.url + "/cars")`

    A route gives a JSON value, bytes, `(status, headers, body)`, or `None` when it has answered by itself. `*` is for all other paths."""
    def __init__(self, routes, tls=None):
        self.requests, server = [], self
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            def log_message(self, *args): pass
            def answer(self):
                request = Request(self.command, self.path, self.headers, self.rfile.read(int(self.headers.get("Content-Length") or 0)), self)
                server.requests.append(request)
                server.reply(request, routes.get(request.path, routes.get("*", (404, {}, b"no such page"))))
            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = answer
        self._open = set()  # connections, which may be kept for more than one request
        class Quiet(ThreadingHTTPServer):
            daemon_threads = True
            def process_request(self, request, client_address): server._open.add(request); super().process_request(request, client_address)
            def shutdown_request(self, request): server._open.discard(request); super().shutdown_request(request)
            def handle_error(self, request, client_address): pass  # a client that hangs up is part of many tests
        self._http = Quiet(("127.0.0.1", 0), Handler)
        if tls: self._http.socket = tls.wrap_socket(self._http.socket, server_side=True)
        self.port = self._http.server_port
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'https' if tls else 'http'}://{self.host}"

    @staticmethod
    def reply(request, answer):
        "Send what the route gives."
        if callable(answer): answer = answer(request)
        if answer is None: request.handler.close_connection = True; return
        status, headers, body = answer if isinstance(answer, tuple) else (200, {}, answer)
        if not isinstance(body, bytes): headers, body = {"Content-Type": "application/json", **headers}, json.dumps(body).encode()
        request.handler.send_response(status)
        for name, value in {"Content-Length": len(body), **headers}.items(): request.handler.send_header(name, str(value))
        request.handler.end_headers()
        if request.method != "HEAD": request.handler.wfile.write(body)

    def __enter__(self):
        Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self._http.shutdown(); self._http.server_close()
        for connection in list(self._open):
            try: connection.shutdown(socket.SHUT_RDWR)
            except OSError: pass
