"""
A loopback stand-in for the Hugging Face Hub: enough of its HTTP interface to push, list, download and load models.

    with HubStandIn() as hub:
        subprocess.run([...], env=os.environ | hub.environment(tmp_path))
        hub.files("org/name")["config.json"]

Everything lives in memory. Huggingface_hub reads its settings when it is imported, so clients are subprocesses.
"""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import yaml

USER = "tester"
TIME = "2026-01-01T00:00:00.000Z"


def metadata_errors(card: str) -> list[str]:
    """
    What the Hub refuses in the metadata of a card: a list of strings (or one string) with other values in it, or a
    result whose dataset is no identifier.
    """
    metadata = yaml.safe_load(card.split("---")[1]) if card.startswith("---") else {}
    errors = []
    for key in ("tags", "datasets", "language", "metrics", "base_model"):
        value = metadata.get(key, [])
        if not isinstance(value, str | list) or not all(isinstance(item, str) for item in value):
            errors.append(f'"{key}" must be a string or a list of strings, not {json.dumps(value)}')
    for index in metadata.get("model-index", []):
        types = {result["dataset"]["type"] for result in index["results"]}
        errors += [f'"dataset.type" is {one!r}' for one in types if not re.fullmatch(r"([\w-]+/)?[\w.-]+", one)]
    return errors


class Repository:
    """Commits of one repository, oldest first, each a full snapshot path → bytes; one branch, `main`."""

    def __init__(self) -> None:
        self.commits: list[tuple[str, dict[str, bytes]]] = []
        self.commit({})

    def commit(self, files: dict[str, bytes]) -> str:
        contents = sorted((path, hashlib.sha1(data).hexdigest()) for path, data in files.items())
        text = repr((len(self.commits), contents))
        self.commits.append((hashlib.sha1(text.encode()).hexdigest(), files))
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        if revision == "main":
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0] == revision), None)


class HubStandIn:
    """Context manager that serves on a free loopback port."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.lfs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "HubStandIn":
        Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """Environment of a client process with its own cache below `home`."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": "hf_dummy",
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def files(self, repo_id: str) -> dict[str, bytes]:
        """The latest snapshot of a repository."""
        return self.repositories[repo_id].commits[-1][1]


class Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    ROUTES = [
        ("POST", r"/api/repos/create", "create"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("POST", r"/api/models/([^/]+/[^/]+)/preupload/[^/]+", "preupload"),
        ("POST", r"/api/models/([^/]+/[^/]+)/commit/[^/]+", "commit"),
        ("GET", r"/api/models/([^/]+/[^/]+)/tree/([^/]+)/?(.*)", "tree"),
        ("GET", r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", "info"),
        ("POST", r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/([0-9a-f]{64})", "lfs_upload"),
        ("GET", r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
    ]

    def handle_request(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        for method, pattern, name in self.ROUTES:
            if method == self.command.replace("HEAD", "GET") and (match := re.fullmatch(pattern, path)):
                return getattr(self, name)(*match.groups())
        self.answer(501, {"error": f"the stand-in has no {self.command} {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_request

    def log_message(self, *_) -> None:
        pass

    def answer(self, status: int, content: bytes | dict | list = b"", **headers) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        headers = {"Content-Length": len(data), "Content-Type": "application/json", **headers}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def missing(self, code: str, **headers) -> None:
        self.answer(404, {"error": code}, X_Error_Code=code, X_Error_Message=code, **headers)

    def snapshot(self, repo_id: str, revision: str | None) -> tuple[str, dict[str, bytes]] | None:
        """`(sha, files)`, or `None` after answering 404."""
        repository = self.hub.repositories.get(repo_id)
        found = repository and repository.at(revision or "main")
        if not found:
            self.missing("RevisionNotFound" if repository else "RepoNotFound")
        return found

    def create(self) -> None:
        request = json.loads(self.body)
        repo_id = f"{request.get('organization') or USER}/{request['name']}"
        reply = {"url": f"{self.hub.endpoint}/{repo_id}", "name": repo_id, "id": repo_id}
        if repo_id in self.hub.repositories:
            return self.answer(409, {**reply, "error": "You already created this repo"})
        self.hub.repositories[repo_id] = Repository()
        self.answer(200, reply)

    def validate_yaml(self) -> None:
        errors = metadata_errors(json.loads(self.body)["content"])
        answer = {"errors": [{"message": error} for error in errors], "warnings": []}
        self.answer(400 if errors else 200, answer)

    def info(self, repo_id: str, revision: str | None) -> None:
        if found := self.snapshot(repo_id, revision):
            sha, files = found
            siblings = [{"rfilename": path} for path in sorted(files)]
            rest = {
                "private": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "createdAt": TIME,
                "lastModified": TIME,
            }
            self.answer(200, {"id": repo_id, "sha": sha, "siblings": siblings, **rest})

    def tree(self, repo_id: str, revision: str, folder: str) -> None:
        if found := self.snapshot(repo_id, revision):
            sha, files = found
            entries = [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
                if path.startswith(f"{folder}/" if folder else "")
            ]
            if folder and not entries:
                return self.missing("EntryNotFound", X_Repo_Commit=sha)
            self.answer(200, entries)

    def preupload(self, repo_id: str) -> None:
        def plan(path: str) -> dict:
            mode = "lfs" if path.endswith((".safetensors", "tokenizer.json")) else "regular"
            return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": None}

        self.answer(200, {"files": [plan(file["path"]) for file in json.loads(self.body)["files"]]})

    def lfs_batch(self, repo_id: str) -> None:
        def plan(item: dict) -> dict:
            known = item["oid"] in self.hub.lfs
            upload = {"upload": {"href": f"{self.hub.endpoint}/lfs/{item['oid']}"}}
            return {"oid": item["oid"], "size": item["size"], **({} if known else {"actions": upload})}

        objects = [plan(item) for item in json.loads(self.body)["objects"]]
        self.answer(200, {"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            return self.answer(400, {"error": f"the content does not have the sha256 {oid}"})
        self.hub.lfs[oid] = self.body
        self.answer(200)

    def commit(self, repo_id: str) -> None:
        if not (found := self.snapshot(repo_id, "main")):
            return
        files = dict(found[1])
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
        sha = self.hub.repositories[repo_id].commit(files)
        url = f"{self.hub.endpoint}/{repo_id}/commit/{sha}"
        self.answer(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def resolve(self, repo_id: str, revision: str, path: str) -> None:
        if not (found := self.snapshot(repo_id, revision)):
            return
        sha, files = found
        if path not in files:
            return self.missing("EntryNotFound", X_Repo_Commit=sha)
        headers = {"X_Repo_Commit": sha, "ETag": f'"{hashlib.sha1(files[path]).hexdigest()}"'}
        self.answer(200, files[path], Content_Type="application/octet-stream", **headers)
