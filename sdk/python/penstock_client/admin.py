"""Administration, blocking: models and their versions, aliases, keys."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from penstock_client.documents import (
    Alias,
    AliasChange,
    Event,
    History,
    Key,
    Loading,
    Model,
    ModelList,
    ModelSummary,
    NewKey,
    Registered,
    Removed,
    Unloading,
    Version,
)
from penstock_client.routes import Routes
from penstock_client.steps import Run

__all__ = ["Keys", "Models"]


class Models:
    """Registered models and their versions: `client.models`. A version may be given by an alias, too.

    What changes something needs a key with a role (docs/security.md). Loading and promoting return when they are done,
    however long that takes.
    """

    def __init__(self, routes: Routes, run: Run) -> None:
        self._routes = routes
        self._run = run

    def list(self) -> Sequence[ModelSummary]:
        """Return every version of every model, registered or configured."""
        return self._run(self._routes.models())

    def page(self, *, limit: int | None = None, after: str | None = None) -> ModelList:
        """Return some versions, those behind NAME@VERSION; `next` of the page is what to go on after."""
        return self._run(self._routes.get(ModelList, "/models", query={"limit": limit, "after": after}))

    def show(self, name: str) -> Model:
        """Return a model with its versions."""
        return self._run(self._routes.get(Model, "/models", name))

    def version(self, name: str, version: str) -> Version:
        """Return all that is known of a version."""
        return self._run(self._routes.get(Version, "/models", name, "versions", version))

    def register(
        self,
        name: str,
        path: str | os.PathLike[str],
        *,
        version: str | None = None,
        upload: bool = True,
        backend: str = "auto",
        description: str = "",
        tags: Sequence[str] = (),
        metrics: Mapping[str, float] | None = None,
        settings: Mapping[str, object] | None = None,
        **more: object,
    ) -> Registered:
        """Register a file or folder as a new version. Nothing is loaded yet.

        Args:
            name: The model's.
            path: Its file or folder. What belongs to a file comes with it: schema, golden rows and plan beside it, and
                the files that these name.
            version: Such as "1.2.0"; None is the next minor version.
            upload: Send the files. False: the server reads them itself, from the same path.
            backend: What runs it; "auto" goes by its files.
            description: What it is.
            tags: To find it by.
            metrics: How good it is.
            settings: The model's own, such as {"max_batch_size": 32}.
            more: What else is said of it: owner, framework, training_data, lineage, environment, card.
        """
        said = {
            "name": name,
            "version": version,
            "backend": backend,
            "description": description,
            "tags": [*tags],
            "metrics": dict(metrics or {}),
            "settings": dict(settings or {}),
            **more,
        }
        if not upload:
            return self._run(
                self._routes.post(Registered, "/models", document={**said, "path": str(Path(path).absolute())})
            )
        from penstock_client.packing import Archive  # for uploads alone

        archive = Archive(Path(path), said)
        try:
            return self._run(self._routes.upload(Registered, "/models", archive))
        finally:
            archive.close()

    def load(self, name: str, version: str | None = None, *, lazy: bool = False) -> Loading:
        """Have a version in memory; None is the one that answers. With `lazy` from the first request for it."""
        return self._run(
            self._routes.post(Loading, "/models", name, "load", document={"version": version, "lazy": lazy})
        )

    def unload(self, name: str, version: str | None = None) -> Unloading:
        """Have a version in memory no longer, None: none of the model's, once its requests are answered."""
        return self._run(self._routes.post(Unloading, "/models", name, "unload", document={"version": version}))

    def promote(
        self,
        name: str,
        version: str,
        *,
        reason: str = "",
        mirror: Mapping[str, float] | None = None,
        allow_schema_change: bool = False,
    ) -> Alias:
        """Let a version answer, once it has proved itself.

        Args:
            name: The model's.
            version: The one that is to answer.
            reason: For the history.
            mirror: Compare on live traffic first: `share` of the requests, until `rows` have been compared, within
                `rtol` and `atol`, for at most `timeout_s`.
            allow_schema_change: Let it answer even if its inputs or outputs break clients of the version that answers.
        """
        wish: dict[str, object] = {"version": version, "reason": reason}
        if mirror is not None:
            wish["mirror"] = dict(mirror)
        if allow_schema_change:
            wish["allow_schema_change"] = True
        return self._run(self._routes.post(Alias, "/models", name, "promote", document=wish))

    def rollback(self, name: str, *, reason: str = "") -> Alias:
        """Let the version answer again that did before the last promotion.

        It is sent once: a second one would go further back.
        """
        return self._run(self._routes.post_once(Alias, "/models", name, "rollback", document={"reason": reason}))

    def alias(self, name: str, alias: str) -> Alias:
        """Return where an alias points."""
        return self._run(self._routes.get(Alias, "/models", name, "aliases", alias))

    def set_alias(
        self,
        name: str,
        alias: str,
        version: str,
        *,
        expected: str | None = None,
        reason: str = "",
        allow_schema_change: bool = False,
    ) -> AliasChange:
        """Point an alias to a version; with `expected` only if it points there at the moment.

        To point `champion` to a version is to promote it, with `allow_schema_change` as there.
        """
        wish: dict[str, object] = {"version": version, "reason": reason}
        if expected is not None:
            wish["expected"] = expected
        if allow_schema_change:
            wish["allow_schema_change"] = True
        return self._run(self._routes.put(AliasChange, "/models", name, "aliases", alias, document=wish))

    def remove_alias(self, name: str, alias: str, *, expected: str | None = None, reason: str = "") -> AliasChange:
        """Take an alias away; with `expected` only if it points there at the moment."""
        wish = {"expected": expected, "reason": reason}
        return self._run(self._routes.delete(AliasChange, "/models", name, "aliases", alias, query=wish))

    def history(self, name: str, *, at: str | None = None, limit: int = 100) -> Sequence[Event]:
        """Return what has happened to a model, newest first: at most `limit` events, up to the time `at`."""
        return self._run(self._routes.history(name, at, limit))

    def history_page(
        self, name: str, *, at: str | None = None, limit: int | None = None, before: int | None = None
    ) -> History:
        """Return some events, those before the number `before`; `next` of the page is what to go on before."""
        asked = {"at": at, "limit": limit, "before": before}
        return self._run(self._routes.get(History, "/models", name, "history", query=asked))

    def remove(self, name: str, version: str | None = None) -> Removed:
        """Remove a version, or a model with all of them. What is in memory, or has an alias, is not removed."""
        parts = (name,) if version is None else (name, "versions", version)
        return self._run(self._routes.delete(Removed, "/models", *parts))


class Keys:
    """Keys to the server: `client.keys`. All of it needs the role admin."""

    def __init__(self, routes: Routes, run: Run) -> None:
        self._routes = routes
        self._run = run

    def create(self, name: str, role: Literal["admin", "operator", "predict"]) -> NewKey:
        """Make a key. Its text is in the answer's `key`, and never told again. It is sent once."""
        return self._run(self._routes.post_once(NewKey, "/keys", document={"name": name, "role": role}))

    def list(self) -> Sequence[Key]:
        """Return all keys, without their texts."""
        return self._run(self._routes.keys())

    def revoke(self, id: str) -> Key:
        """Take a key's rights away."""
        return self._run(self._routes.delete(Key, "/keys", id))
