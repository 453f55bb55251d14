"""A server with the interface of S3 over HTTP, in a thread, that counts what it sends."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Store:
    """The server.

    Args:
        url: its address.
        sent: method, path and size of the body of each response.
    """

    url: str
    sent: list[tuple[str, str, int]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which libraries of S3 find it."""
        keys = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        return {**keys, "AWS_ENDPOINT_URL": self.url}

    def bytes_of(self, name: str) -> int:
        """Return the bytes of an object that were sent."""
        return sum(size for method, path, size in self.sent if method == "GET" and path.endswith(name))


@contextmanager
def serve_s3() -> Iterator[Store]:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    backend, store = DomainDispatcherApplication(create_backend_app), Store("")

    class Quiet(WSGIRequestHandler):
        def log(self, *_: object) -> None:
            """Print nothing."""

    def count(environ, start_response):
        body = b"".join(backend(environ, start_response))
        store.sent.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], len(body)))
        return [body]

    server = make_server("127.0.0.1", 0, count, threaded=True, request_handler=Quiet)
    store.url = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
