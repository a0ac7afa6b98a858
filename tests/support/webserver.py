"""A web server on this machine that can fail in the ways of web servers.

As a script it serves a folder to another process: ``python webserver.py FOLDER`` prints its port.
"""

import re
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WebServer(ThreadingHTTPServer):
    """Serves `files`, bytes by path; what it does wrong is set by its attributes."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {}
        self.log = []                   # method, path and range of each request
        self.ranges = True              # whether it answers with ranges
        self.claims_ranges = False
        self.tells_ranges = True        # whether it says that it does, or does not
        self.tells_size = True
        self.tells_version = True
        self.salt = 0                   # part of every ETag, by which files change
        self.seconds = 0.0              # before each answer
        self.fault = lambda n, method, first: None      # of the n-th request: a code, "drop" or None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        """Clients that go away are no error."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        server = self.server
        found = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(found[1]) if found else None
        server.log.append((self.command, self.path, first))
        time.sleep(server.seconds)
        fault = server.fault(len(server.log), self.command, first)
        path = self.path.partition("?")[0]
        if path.endswith("/"):
            return self.send_listing(path)
        if path not in server.files or isinstance(fault, int):
            return self.send_error(fault if isinstance(fault, int) else 404)
        content = server.files[path]
        total = len(content)
        is_range = found is not None and server.ranges
        if is_range:
            content = content[first:int(found[2]) + 1 if found[2] else total]
        self.send_response(206 if is_range else 200)
        if is_range:
            self.send_header("Content-Range", f"bytes {first}-{first + len(content) - 1}/{total}")
        if server.tells_ranges:
            self.send_header("Accept-Ranges", "bytes" if server.ranges or server.claims_ranges else "none")
        if server.tells_version:
            self.send_header("ETag", f'"{len(server.files[path])}-{server.salt}"')
        if server.tells_size:
            self.send_header("Content-Length", str(len(content)))
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if not body:
            return None
        if fault == "drop":
            self.wfile.write(content[:len(content) // 2])
            self.close_connection = True
            return self.connection.shutdown(2)
        return self.wfile.write(content)

    def send_listing(self, path):
        names = sorted({name[len(path):].partition("/")[0] + "/" * ("/" in name[len(path):])
                        for name in self.server.files if name.startswith(path)})
        page = "".join(f'<a href="{name}">{name}</a>' for name in names).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(page)

    def log_message(self, *arguments):
        pass


@contextmanager
def serving():
    server = WebServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
