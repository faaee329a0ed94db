"""A proxy in front of a server of HTTP, which can be told to refuse, to be slow, or to answer with an error."""

import http.client
import http.server
import socket
import struct
import threading
import time
from typing import Any

WRITES = ("PUT", "POST", "DELETE")
ERRORS = {503: "SlowDown", 403: "AccessDenied"}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, target: int) -> None:
        self.target = target
        self.refuses = False
        self.seconds = 0.0
        self.error: int | None = None
        super().__init__(("127.0.0.1", 0), _Handler)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self.refuses

    def shutdown_request(self, request: Any) -> None:
        if self.refuses:  # a reset, as of a port where nobody listens
            request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            request.close()
        else:
            super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was killed


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *arguments: Any) -> None:
        pass

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(self.server.seconds)
        if self.server.refuses:
            self.close_connection = True
            return
        if self.server.error is not None and self.command in WRITES:
            code = ERRORS[self.server.error]
            answer = (
                f"<Error><Code>{code}</Code><Message>{code} by the fault suite</Message></Error>".encode()
            )
            return self._answer(self.server.error, [("Content-Type", "application/xml")], answer)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=60)
        try:
            connection.request(self.command, self.path, body or None, dict(self.headers))
            response = connection.getresponse()
            content = response.read()
        except OSError:
            return self._answer(502, [], b"")
        finally:
            connection.close()
        dropped = ("content-length", "transfer-encoding", "connection")
        headers = [(key, value) for key, value in response.getheaders() if key.lower() not in dropped]
        length = response.getheader("Content-Length") if self.command == "HEAD" else None
        self._answer(response.status, headers, content, length)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do_PATCH = _forward

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, length: str | None = None
    ) -> None:
        self.send_response_only(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


class Proxy:
    """The proxy, in threads of this process. It passes everything on until it is told otherwise."""

    def __init__(self, target: int) -> None:
        """`target`: the server's port on the loopback interface."""
        self._server = _Server(target)
        self.port: int = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def aim(self, target: int) -> None:
        """Another server."""
        self._server.target = target

    def passes(self) -> None:
        """Everything is passed on."""
        self._server.refuses, self._server.seconds, self._server.error = False, 0.0, None

    def refuses(self) -> None:
        """Connections are reset."""
        self._server.refuses = True

    def is_slow(self, seconds: float) -> None:
        """Each request waits first."""
        self._server.seconds = seconds

    def denies_writes(self, status: int) -> None:
        """PUT, POST and DELETE get this status."""
        self._server.error = status

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
