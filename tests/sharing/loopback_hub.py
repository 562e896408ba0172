"""A Hub in memory on 127.0.0.1 for the real huggingface_hub client: create, commit, list, download, check tokens."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Repository:
    private: bool = False
    sha: str = "0" * 40
    files: dict[str, bytes] = field(default_factory=dict)


class LoopbackHub:
    """`with LoopbackHub(home) as hub`: a process with `hub.environment()` talks to it. Model repositories, branch main.

    Every file travels in the commit itself (uploadMode "regular"): with "lfs" the client would ask for a Xet server.
    """

    user, token, read_token = "tester", "hf_loopback", "hf_loopback_read"

    def __init__(self, home):
        self.home, self.repositories = home, {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    def environment(self) -> dict[str, str]:
        """Read by huggingface_hub when it is imported, so it must be set before."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self.home),
            "HF_TOKEN": self.token,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def answer(self, method: str, path: str, token: str | None, body: bytes):
        """(status, headers, content) of one request."""
        if path == "/api/whoami-v2" and token == self.read_token:
            return 200, {}, self.identity("read")
        if (method == "POST" or path == "/api/whoami-v2") and token != self.token:
            return 401, {"X-Error-Message": "Invalid credentials in Authorization header"}, {"error": "unauthorized"}
        if path == "/api/whoami-v2":
            return 200, {}, self.identity("write")
        if path == "/api/validate-yaml":
            return 200, {}, {"errors": [], "warnings": []}
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        route = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)/([^/]+))?", path)
        route = route or re.fullmatch(r"/([^/]+/[^/]+)/(resolve)/([^/]+/.+)", path)
        if route is None:
            return missing("EntryNotFound", path)
        name, verb, rest = route.groups()
        repository = self.repositories.get(name)
        if repository is None or (repository.private and token != self.token):
            return missing("RepoNotFound", name)
        revision, _, file = (rest or "main").partition("/")
        if revision not in ("main", repository.sha):
            return missing("RevisionNotFound", revision)
        return getattr(self, verb or "revision")(name, repository, file or body)

    def identity(self, role: str) -> dict:
        return {"type": "user", "name": self.user, "orgs": [], "auth": {"accessToken": {"role": role}}}

    def create(self, request: dict):
        name = f"{request.get('organization') or self.user}/{request['name']}"
        if name in self.repositories:
            return 409, {}, {"error": "You already created this model repo", "url": f"{self.url}/{name}"}
        private = request.get("visibility") == "private" or request.get("private", False)  # huggingface_hub 2, 1
        self.repositories[name] = Repository(private=private)
        return 200, {}, {"url": f"{self.url}/{name}", "id": name}

    def preupload(self, name: str, repository: Repository, body: bytes):
        files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
        return 200, {}, {"files": [file | {"shouldIgnore": False, "oid": None} for file in files]}

    def commit(self, name: str, repository: Repository, body: bytes):
        for operation in map(json.loads, body.splitlines()):
            if operation["key"] == "file":
                repository.files[operation["value"]["path"]] = base64.b64decode(operation["value"]["content"])
        repository.sha = hashlib.sha1(body).hexdigest()
        return 200, {}, {"commitOid": repository.sha, "commitUrl": f"{self.url}/{name}/commit/{repository.sha}"}

    def revision(self, name: str, repository: Repository, body: bytes):
        siblings = [{"rfilename": path} for path in sorted(repository.files)]
        return 200, {}, {"id": name, "sha": repository.sha, "private": repository.private, "siblings": siblings}

    def tree(self, name: str, repository: Repository, body: bytes):
        files = sorted(repository.files.items())
        return 200, {}, [{"type": "file", "path": path, "size": len(data), "oid": etag(data)} for path, data in files]

    def resolve(self, name: str, repository: Repository, path: str):
        if path not in repository.files:
            return missing("EntryNotFound", path, **{"X-Repo-Commit": repository.sha})
        data = repository.files[path]
        return 200, {"ETag": f'"{etag(data)}"', "X-Repo-Commit": repository.sha}, data


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        status, headers, content = self.hub.answer(self.command, unquote(urlsplit(self.path).path), token, body)
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = respond

    def log_message(self, *args):
        pass


def missing(code: str, what: str, **headers):
    return 404, {"X-Error-Code": code, **headers}, {"error": f"{what} not found"}


def etag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
