"""The model under test, as its server describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import penstock_client
from penstock.load.rows import TensorSpec

__all__ = ["Target", "target_of", "workers_of"]


@dataclass(frozen=True, slots=True)
class Target:
    """A model version at a server, and how it is asked.

    Attributes:
        client: Asks the server.
        name: The model's name.
        version: The version that is tested.
        inputs: Its tensors, or the fields of its record.
        outputs: Likewise; a first extent of 0 varies.
        record: With a plan the JSON Schema of what it takes.
        key: What the client shows, for those who ask without it.
        url: Where the server is, as a person who repeats a call is to write it.
        asked: The version that a person asked for, None for the one that answers.
    """

    client: penstock_client.Client
    name: str
    version: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    record: Mapping[str, Any] | None
    url: str
    key: str | None = None
    asked: str | None = None

    def output(self, name: str) -> TensorSpec | None:
        """Return the output of this name."""
        return next((spec for spec in self.outputs if spec.name == name), None)


def target_of(
    client: penstock_client.Client, name: str, url: str, *, version: str | None = None, key: str | None = None
) -> Target:
    """Ask what a model takes and gives; an error of the client when there is no such model, or it is not ready."""
    found = _version_of(client, name, version)
    longest = max((found["batching"] or {}).get("lengths", ()), default=0)
    inputs, outputs = (tuple(_spec(tensor, longest) for tensor in found[which]) for which in ("inputs", "outputs"))
    return Target(client, name, found["version"], inputs, outputs, found.get("record"), url, key, version)


def workers_of(target: Target) -> dict[int, tuple[int | None, int]]:
    """Return the process and the restarts of each worker of the model, by its number."""
    found = _version_of(target.client, target.name, target.version)
    return {worker["worker"]: (worker["pid"], worker["restarts"]) for worker in found["workers"]}


def _version_of(client: penstock_client.Client, name: str, version: str | None) -> Mapping[str, Any]:
    document = client.models.show(name)
    wanted = version if version is None else document["aliases"].get(version, version)
    for each in document["versions"]:
        if each["version"] == wanted or (wanted in (None, "latest") and each["latest"]):
            if not each["inputs"]:
                raise penstock_client.ArgumentError(f"model {name!r} is {each['state']} and has no schema yet")
            return each
    known = ", ".join(each["version"] for each in document["versions"])
    raise penstock_client.ArgumentError(f"model {name!r} has no version {version!r}: there are {known}")


def _spec(tensor: Mapping[str, Any], longest: int) -> TensorSpec:
    varies = tensor["shape"][:1] == [None]
    shape = (longest, *tensor["shape"][1:]) if varies else tuple(tensor["shape"])
    return TensorSpec(tensor["name"], tensor["dtype"], shape, varies)
