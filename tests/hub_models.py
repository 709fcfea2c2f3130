"""A Hub of models for one test, which takes what `huggingface_hub` commits: over HTTP, with its own endpoints.

Large files go up by the LFS protocol, as the Hub takes them from clients without Xet (HF_HUB_DISABLE_XET).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKEN = "hf_" + "t" * 34
SECRET = "X-Amz-Signature=0123secret"
"""What a signed address carries, which nobody may print."""

Files = Mapping[str, bytes]


@dataclass
class Repo:
    """A repository of models."""

    private: bool = True
    commits: dict[str, Files] = field(default_factory=dict)
    """The files of each commit, by its name."""
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def add(self, files: Files, branch: str = "main") -> str:
        oid = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[oid] = dict(files)
        self.branches[branch] = oid
        return oid

    def find(self, revision: str) -> str | None:
        return (
            self.branches.get(revision) or self.tags.get(revision) or (revision if revision in self.commits else None)
        )

    def head(self, revision: str = "main") -> Files:
        return self.commits[self.find(revision) or ""]


@dataclass
class Hub:
    """What a Hub holds, and what it was asked."""

    address: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    """Large files that were sent, by their SHA-256."""
    asked: list[str] = field(default_factory=list)
    fails: dict[str, int] = field(default_factory=dict)
    """Statuses to answer with once, by a part of what is asked."""
    before_commit: object = None
    """Called once before a commit is taken."""

    def environment(self, token: str = TOKEN) -> dict[str, str]:
        """Return what a program needs to push here."""
        return {"HF_ENDPOINT": self.address, "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body, path = self._body(), unquote(urlsplit(self.path).path)
        what = f"{self.command} {path}"
        self.hub.asked.append(what)
        for part, status in list(self.hub.fails.items()):
            if part in what:
                del self.hub.fails[part]
                return self._json({"error": "injected"}, status)
        if path.startswith("/lfs/"):  # signed addresses need no token
            return self._large(path.removeprefix("/lfs/"), body)
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._json(
                {"error": "no token"}, 401, {"X-Error-Code": "RepoNotFound"} if "/api/models" in path else {}
            )
        return self._route(path.strip("/").split("/"), body)

    do_HEAD = do_POST = do_PUT = do_GET

    def _route(self, parts: list[str], body: bytes) -> None:
        match parts:
            case ["api", "repos", "create"]:
                return self._create(json.loads(body))
            case ["api", "validate-yaml"]:
                return self._validate(json.loads(body)["content"])
            case ["api", "models", owner, name, *rest]:
                repo = self.hub.repos.get(f"{owner}/{name}")
                if repo is None:
                    return self._json({"error": "no such repository"}, 404, {"X-Error-Code": "RepoNotFound"})
                return self._model(f"{owner}/{name}", repo, rest, body)
            case [owner, name, "info", "lfs", "objects", "batch"] if name.endswith(".git"):
                return self._batch(json.loads(body))
            case [owner, name, "resolve", revision, *path]:
                return self._file(self.hub.repos[f"{owner}/{name}"], revision, "/".join(path))
        return self._json({"error": f"nothing at {parts}"}, 404)

    def _model(self, name: str, repo: Repo, rest: list[str], body: bytes) -> None:
        revision = rest[1] if len(rest) > 1 else "main"
        oid = repo.find(revision)
        if rest == ["refs"]:
            return self._json(_refs(repo))
        if oid is None:
            return self._json({"error": "no such revision"}, 404, {"X-Error-Code": "RevisionNotFound"})
        match rest:
            case [] | ["revision", _]:
                siblings = [{"rfilename": path} for path in sorted(repo.commits[oid])]
                return self._json({"id": name, "sha": oid, "private": repo.private, "siblings": siblings, "tags": []})
            case ["paths-info", _]:
                asked = parse_qs(body.decode())["paths"]
                return self._json(
                    [_entry(path, repo.commits[oid][path]) for path in asked if path in repo.commits[oid]]
                )
            case ["preupload", _]:
                return self._json(
                    {"files": [self._mode(repo.commits[oid], each) for each in json.loads(body)["files"]]}
                )
            case ["commit", branch]:
                return self._commit(name, repo, branch, body)
            case ["tag", _]:
                return self._tag(repo, json.loads(body)["tag"], oid)
        return self._json({"error": f"nothing at {rest}"}, 404)

    def _tag(self, repo: Repo, tag: str, oid: str) -> None:
        is_new = repo.tags.setdefault(tag, oid) == oid
        return self._json({} if is_new else {"error": "there is one"}, 200 if is_new else 409)

    def _create(self, asked: Mapping[str, str]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repos:
            return self._json({"error": "there is one", "url": f"{self.hub.address}/{name}"}, 409)
        self.hub.repos[name] = Repo(private=asked.get("visibility") == "private" or bool(asked.get("private")))
        self.hub.repos[name].add({".gitattributes": b"*.safetensors filter=lfs"})
        return self._json({"url": f"{self.hub.address}/{name}", "name": name})

    def _validate(self, content: str) -> None:
        head = yaml.safe_load(content.split("---\n")[1])
        is_right = isinstance(head, dict) and isinstance(head.get("tags", []), list)
        return self._json({"errors": [] if is_right else [{"message": "no metadata"}]}, 200 if is_right else 400)

    def _mode(self, there: Files, asked: Mapping[str, object]) -> dict[str, object]:
        path = str(asked["path"])
        is_large, data = path.endswith(".safetensors"), there.get(path)
        mode = {"path": path, "uploadMode": "lfs" if is_large else "regular", "shouldIgnore": False}
        return mode if data is None else mode | {"oid": hashlib.sha256(data).hexdigest() if is_large else _blob(data)}

    def _batch(self, asked: Mapping[str, list[Mapping[str, object]]]) -> None:
        found = []
        for each in asked["objects"]:
            oid, at = each["oid"], self.hub.address
            actions = {"upload": {"href": f"{at}/lfs/{oid}?{SECRET}"}, "verify": {"href": f"{at}/lfs/verify"}}
            found.append({**each} if oid in self.hub.large else {**each, "actions": actions})
        return self._json({"transfer": "basic", "objects": found})

    def _large(self, oid: str, body: bytes) -> None:
        if oid == "verify":
            return self._json({}, 200 if json.loads(body)["oid"] in self.hub.large else 404)
        if hashlib.sha256(body).hexdigest() != oid:
            return self._json({"error": "other bytes"}, 400)
        self.hub.large[oid] = body
        return self._json({})

    def _commit(self, name: str, repo: Repo, branch: str, body: bytes) -> None:
        if callable(self.hub.before_commit):
            called, self.hub.before_commit = self.hub.before_commit, None
            called()
        lines = [json.loads(line) for line in body.splitlines()]
        files = dict(repo.head(branch))
        for line in lines:
            value = line["value"]
            match line["key"]:
                case "header":
                    if value.get("parentCommit") not in (None, repo.branches[branch]):
                        return self._json({"error": "the branch has moved"}, 412)
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.hub.large[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        oid = repo.add(files, branch)
        return self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{oid}", "commitOid": oid})

    def _file(self, repo: Repo, revision: str, path: str) -> None:
        oid = repo.find(revision)
        if oid is None or path not in repo.commits[oid]:
            return self._json({}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid or ""})
        data = repo.commits[oid][path]
        return self._send(200, data, {"ETag": f'"{_blob(data)}"', "X-Repo-Commit": oid})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _json(self, value: object, status: int = 200, headers: Mapping[str, str] = {}) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json", **headers})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _blob(data: bytes) -> str:
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _refs(repo: Repo) -> dict[str, object]:
    branches = [_ref("heads", *each) for each in repo.branches.items()]
    return {"branches": branches, "tags": [_ref("tags", *each) for each in repo.tags.items()], "converts": []}


def _ref(kind: str, name: str, oid: str) -> dict[str, str]:
    return {"name": name, "ref": f"refs/{kind}/{name}", "targetCommit": oid}


def _entry(path: str, data: bytes) -> dict[str, object]:
    return {"type": "file", "oid": _blob(data), "size": len(data), "path": path}


@contextmanager
def model_hub() -> Iterator[Hub]:
    """Serve a Hub without repositories."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
