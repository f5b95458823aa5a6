"""A server of originals on loopback that answers well or badly."""

from __future__ import annotations

import http.server
import threading
import time
import urllib.parse

from tiny_originals import COMMIT

FAULTS = ("cut", "slow", "wrong", "missing", "failing", "closed", "trickling")


class Originals:
    """Serves files by their path; every `every`-th answer is bad, by `fault`, until `left` of them were.

    A *cut* answer ends in its middle, a *slow* one comes too late, a *wrong* one holds other bytes, *missing* and
    *failing* are 404 and 503, *closed* is a connection that ends without an answer, and *trickling* comes in time,
    a little at once.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.fault, self.every, self.left, self.asked = "", 1, 0, 0
        files = {f"/own/repo/{COMMIT}/{path}": content for path, content in files.items()}
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body, fault = files.get(urllib.parse.unquote(self.path)), server.next_fault()
                if body is None or fault in ("missing", "failing"):
                    self.send_error(503 if fault == "failing" else 404)
                    return
                if fault == "closed":
                    self.close_connection = True
                    self.connection.close()
                    return
                if fault == "slow":
                    time.sleep(2.5)
                body = b"x" * len(body) if fault == "wrong" else body
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if fault == "trickling":
                    for first in range(0, len(body), len(body) // 5):
                        self.wfile.write(body[first : first + len(body) // 5])
                        time.sleep(0.1)
                else:
                    self.wfile.write(body[: len(body) // 2] if fault == "cut" else body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is said."""

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """A client that went away is what is tried here."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/"
        self.guard = threading.Lock()

    def next_fault(self) -> str:
        """What is wrong with the next answer."""
        with self.guard:
            self.asked += 1
            bad = self.left > 0 and self.asked % self.every == 0
            self.left -= bad
            return self.fault if bad else ""

    def plan(self, fault: str, every: int = 1, left: int = 0) -> None:
        """From now on answer so."""
        with self.guard:
            self.fault, self.every, self.left, self.asked = fault, every, left, 0

    def __enter__(self) -> Originals:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
