"""A Hub of data sets for one test: a folder of repositories over HTTP, answering what `datasets` asks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    asked: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{self.command} {path}")
        parts = path.strip("/").split("/")
        if parts[:2] == ["api", "datasets"] and (self.folder / "/".join(parts[2:4])).is_dir():
            described = _described(self.folder / "/".join(parts[2:4]), parts[4:], body)
            self._send(200, json.dumps(described).encode(), {"Content-Type": "application/json"})
        elif parts[0] == "datasets" and parts[3:4] == ["resolve"]:
            self._file(self.folder / "/".join(parts[1:3]) / "/".join(parts[5:]))
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_POST = do_GET

    def _file(self, path: Path) -> None:
        if not path.is_file():
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        if not (wanted := self.headers.get("Range")):
            return self._send(200, content, headers)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        end = min(int(last or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{end}/{len(content)}"
        return self._send(206, content[int(first) : end + 1], headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


@contextmanager
def hub_of(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve ORG/NAME folders; yield the address, and all requests as they come."""
    asked: list[str] = []
    handler = type("Handler", (_Handler,), {"folder": folder, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _described(repository: Path, rest: list[str], body: bytes) -> object:
    """Say what a repository holds: all of it, a folder of it, or some paths."""
    files = [path for path in sorted(repository.rglob("*")) if path.is_file()]
    if rest[:1] == ["tree"]:
        inside = repository / "/".join(rest[2:])
        return [_entry(repository, path) for path in sorted(inside.rglob("*"))]
    if rest[:1] == ["paths-info"]:
        asked = json.loads(body)["paths"] if body.startswith(b"{") else []
        return [_entry(repository, repository / path) for path in asked if (repository / path).exists()]
    names = [{"rfilename": path.relative_to(repository).as_posix()} for path in files]
    return {"id": "/".join(repository.parts[-2:]), "sha": COMMIT, "siblings": names, "private": False, "tags": []}


def _entry(repository: Path, path: Path) -> dict[str, object]:
    name = path.relative_to(repository).as_posix()
    if path.is_dir():
        return {"type": "directory", "oid": "b" * 40, "size": 0, "path": name}
    return {
        "type": "file",
        "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
        "size": path.stat().st_size,
        "path": name,
    }
