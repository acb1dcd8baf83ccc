"""A client of the models over REST that holds every answer to its schema, and models for it to register."""

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from penstock.core.config import ModelConfig
from penstock.core.status import ModelState, ModelStatus, Origin
from tests.integration.control_plane import Control, assert_problem

__all__ = ["ADMIN", "Client", "loaded", "register", "versions"]

ADMIN = {"X-Penstock-Principal": "k1", "X-Penstock-Role": "admin", "Content-Type": "application/json"}


class Client:
    """Asks as an administrator, and holds every answer to its schema."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.document = control.get("/openapi.json")

    def ask(self, method: str, target: str, document: object = None, status: int = 200) -> Any:
        body = None if document is None else json.dumps(document).encode()
        response, answer = self.control.request(method, target, ADMIN, body)
        assert response.status == status, answer
        if not answer:
            return None
        found = json.loads(answer)
        self.validate(self.operation(method, target), str(status), found)
        return found

    def refused(self, method: str, target: str, status: int, code: str, document: object = None) -> str:
        body = None if document is None else json.dumps(document).encode()
        response, answer = self.control.request(method, target, ADMIN, body)
        assert (
            code
            in self.operation(method, target)["responses"][str(status)]["content"]["application/problem+json"][
                "examples"
            ]
        )
        return str(assert_problem(response, answer, status, code)["detail"])

    def operation(self, method: str, target: str) -> dict[str, Any]:
        parts = target.partition("?")[0].split("/")
        for path, item in self.document["paths"].items():
            wanted = path.split("/")
            if len(wanted) == len(parts) and all(
                each.startswith("{") or each == part for each, part in zip(wanted, parts, strict=True)
            ):
                return dict(item[method.lower()])
        raise AssertionError(f"{target} is not described")

    def validate(self, operation: dict[str, Any], status: str, answer: Any) -> None:
        schema = operation["responses"][status]["content"]["application/json"]["schema"]
        Draft202012Validator(schema | {"components": self.document["components"]}).validate(answer)
        described = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if "properties" in described:
            assert set(answer) <= set(described["properties"])


def register(client: Client, path: Path, **more: Any) -> Any:
    return client.ask("POST", "/models", {"name": "letters", "path": str(path), **more}, status=201)


def versions(client: Client, path: Path, count: int) -> None:
    """Register letters 1.0.0, 1.1.0, ..."""
    for number in range(count):
        path.write_text(f"class Model: number = {number}\n")
        assert register(client, path)["version"] == f"1.{number}.0"


def loaded(name: str, version: str, state: ModelState, *, latest: bool = True) -> ModelStatus:
    config = ModelConfig(name=name, path=Path("artefact"), version=version)
    return ModelStatus(config=config, state=state, latest=latest, origin=Origin.REGISTRY, digest="0" * 64)
