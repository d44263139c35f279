"""A stand-in of the Hugging Face hub: its HTTP interface as far as `push` and `pull` go, over a dictionary."""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hub:
    """Repositories by their names, each with its files; `address` is where it listens.

    Attributes:
        files: repository -> name -> content.
        refused: the status that each request is answered with instead, if it is set.
        unknown: paths that were asked for and are not played here.

    """

    def __init__(self):
        self.files: dict[str, dict[str, bytes]] = {}
        self.refused: int | None = None
        self.private: dict[str, bool] = {}
        self.messages: list[str] = []
        self.unknown: list[str] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()

    def sha(self, repo):
        return hashlib.sha1(repr(sorted(self.files[repo].items())).encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, content=b"", status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": len(body), "Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_POST(self):
        body, path = self.body(), self.path.split("?")[0]
        if self.hub.refused is not None:
            return self.answer({"error": "no"}, self.hub.refused)
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else f"me/{asked['name']}"
            if repo in self.hub.files:
                return self.answer({"error": "there", "url": f"{self.hub.address}/{repo}"}, 409)
            self.hub.files[repo] = {}
            self.hub.private[repo] = bool(asked.get("private")) or asked.get("visibility") == "private"
            return self.answer({"url": f"{self.hub.address}/{repo}"})
        if path == "/api/validate-yaml":  # of the head of a model card
            return self.answer({"errors": [], "warnings": []})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", path):
            # The hub takes large files apart, by a transport of its own (Xet), which is left to its package.
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            return self.answer({"files": files})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", path):
            files = self.hub.files[found[1]]
            for line in body.splitlines():
                part = json.loads(line)
                value = part["value"]
                if part["key"] == "header":
                    self.hub.messages.append(value["summary"])
                else:
                    files[value["path"]] = base64.b64decode(value["content"])
            sha = self.hub.sha(found[1])
            url = f"{self.hub.address}/{found[1]}/commit/{sha}"
            return self.answer({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})
        self.hub.unknown.append(path)
        return self.answer({"error": path}, 404)

    def do_GET(self):
        path = self.path.split("?")[0]
        if self.hub.refused is not None:
            return self.answer({"error": "no"}, self.hub.refused)
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/.+)?", path):
            if found[1] not in self.hub.files:
                return self.answer({"error": "none"}, 404, X_Error_Code="RepoNotFound")
            siblings = [{"rfilename": name} for name in self.hub.files[found[1]]]
            return self.answer({"id": found[1], "sha": self.hub.sha(found[1]), "siblings": siblings, "tags": []})
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            content = self.hub.files[found[1]][found[3]]
            etag = f'"{hashlib.sha256(content).hexdigest()}"'
            return self.answer(content, ETag=etag, X_Repo_Commit=self.hub.sha(found[1]))
        self.hub.unknown.append(path)
        return self.answer({"error": path}, 404)

    do_HEAD = do_GET
