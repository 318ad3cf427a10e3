# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0

"""What a peer shows to the others and takes from them, and the HTTP server around it."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import gossip

MAX_CONNECTIONS = 200
BODY_TIMEOUT = 2  # seconds without a byte of a body that was announced


class Circle:
    """The current frame, who the others are, and the newest model of each. Safe for concurrent use."""

    def __init__(self, member, shape, series, directory):
        self.series = series
        self._member = member
        self._shape = shape
        self._dir = directory
        self._lock = threading.Lock()
        self._frame = b""
        self._inbox = {}
        self._addresses = {}
        self._neighbours = None  # None: not listed
        self._read = None

    def current(self):
        """The frame of the newest model."""
        with self._lock:
            return self._frame

    def show(self, frame):
        """Replaces it."""
        with self._lock:
            self._frame = frame

    def take(self, frame):
        """Takes a frame that came in; raises Refusal, and counts either way."""
        try:
            model = gossip.decode(frame)
            if model.group != self._member["group"]:
                raise gossip.Refusal("group", f"of group {model.group}")
            if model.shape != self._shape:
                raise gossip.Refusal("shape", f"shape {model.shape}")
            with self._lock:
                if model.peer not in self._addresses:
                    raise gossip.Refusal("stranger", f"peer {model.peer} is not listed")
                self._inbox[model.peer] = model
        except gossip.Refusal as refusal:
            self.refuse(refusal.reason)
            raise
        self.series.took(len(frame))

    def refuse(self, reason):
        """Counts a model that was not taken."""
        self.series.refused[reason].inc()

    def empty(self):
        """The models that came in since the last call."""
        with self._lock:
            models, self._inbox = list(self._inbox.values()), {}
            return models

    def refresh(self):
        """Reads the list of peers again if it changed; says whether this peer is on it."""
        info = os.stat(self._dir.peers)
        stamp = (info.st_mtime_ns, info.st_size, info.st_ino)
        with self._lock:
            if stamp == self._read:
                return self._neighbours is not None
        entries = self._dir.read_peers()
        with self._lock:
            self._read = stamp
            self._addresses = {e["peer"]: e["address"] for e in entries if e["peer"] != self._member["peer"]}
            self._neighbours = next((e["neighbours"] for e in entries if e["peer"] == self._member["peer"]), None)
            self._inbox = {peer: m for peer, m in self._inbox.items() if peer in self._addresses}
            return self._neighbours is not None

    def choose(self, rng, count):
        """Up to count neighbours at random, as (name, address) pairs."""
        with self._lock:
            known = [(n, self._addresses[n]) for n in self._neighbours or () if n in self._addresses]
        return rng.sample(known, min(count, len(known)))


class Server(ThreadingHTTPServer):
    """Serves /metrics, /-/healthy and the gossip path for a circle."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address):
        super().__init__(address, _Handler)
        self.circle = None
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)

    def process_request(self, request, client_address):
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request, client_address):
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request, client_address):
        pass  # a client that went away in the middle is no event


class _Handler(BaseHTTPRequestHandler):
    timeout = 10  # seconds without a byte
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.partition("?")[0]
        if path == "/metrics":
            content_type, body = self.server.circle.series.expose(self.headers.get("Accept", ""))
            self._reply(200, content_type, body)
        elif path == gossip.PATH:
            self._answer()
        elif path == "/-/healthy":
            self._reply(200, "text/plain", b"ok\n")
        else:
            self._reply(404, "text/plain", b"not found\n")

    def do_POST(self):
        if self.path.partition("?")[0] != gossip.PATH:
            self.close_connection = True
            self._reply(404, "text/plain", b"not found\n")
            return
        try:
            self.server.circle.take(self._body())
        except gossip.Refusal as refusal:
            self.close_connection = True
            self._reply(gossip.STATUS[refusal.reason], "text/plain", f"{refusal}\n".encode())
            return
        self._answer()

    def _body(self):
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self.server.circle.refuse("malformed")
            raise gossip.Refusal("malformed", "no Content-Length")
        if int(length) > gossip.MAX_FRAME:
            self.server.circle.refuse("oversize")
            raise gossip.Refusal("oversize", f"{length} bytes")
        self.connection.settimeout(BODY_TIMEOUT)
        body = self.rfile.read(int(length))
        self.connection.settimeout(self.timeout)
        return body

    def _answer(self):
        frame = self.server.circle.current()
        self._reply(200, gossip.CONTENT_TYPE, frame)
        self.server.circle.series.sent(len(frame))

    def _reply(self, status, content_type, body):
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
