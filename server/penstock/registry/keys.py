"""Keys: made once, shown once, kept as a hash."""

from __future__ import annotations

import hashlib
import secrets

from penstock.core.errors import RequestError
from penstock.registry.events import micros, moment, now, revise
from penstock.registry.records import KeyRecord, Role
from penstock.store import Row, Statements, clean

__all__ = ["create", "everyone", "revoke"]

_COLUMNS = "id, name, role, hash, created_at, created_by, revoked_at"
_NAME_LENGTH_MAX = 200
# 256 bits: what cannot be guessed needs no slow hash.
_SECRET_BYTES = 32
_ID_BYTES = 8


async def create(statements: Statements, name: str, role: Role, by: str) -> tuple[KeyRecord, str]:
    """Make a key, in a transaction; its text is known to the caller alone."""
    if not name.strip() or len(name) > _NAME_LENGTH_MAX:
        raise RequestError(
            "invalid_input", f"a key needs a name of 1 to {_NAME_LENGTH_MAX} characters: who will use it"
        )
    # In hexadecimal, so that the first '_' behind it ends it.
    identity = secrets.token_hex(_ID_BYTES)
    text = f"psk_{identity}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    record = KeyRecord(identity, clean(name.strip()), role, hashlib.sha256(text.encode()).digest(), now(), clean(by))
    await statements.execute(
        f"INSERT INTO keys ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, NULL)",
        *(record.id, record.name, role.value, record.hash.hex(), micros(record.created_at), record.created_by),
    )
    await revise(statements)
    return record, text


async def everyone(statements: Statements) -> list[KeyRecord]:
    """Return all keys, revoked ones too, the oldest first."""
    rows = await statements.fetch(f"SELECT {_COLUMNS} FROM keys ORDER BY created_at, id")
    return [_key(row) for row in rows]


async def revoke(statements: Statements, identity: str, by: str) -> KeyRecord:
    """Let a key open nothing any more, in a transaction. One that is revoked already stays as it is."""
    row = await statements.fetch_one(f"SELECT {_COLUMNS} FROM keys WHERE id = ?", clean(identity))
    if row is None:
        raise RequestError(
            "not_found", f"there is no key {identity!r}: its id is what stands between 'psk_' and the next '_'"
        )
    if row[-1] is None:
        await statements.execute(
            "UPDATE keys SET revoked_at = ?, revoked_by = ? WHERE id = ?", micros(now()), clean(by), identity
        )
        await revise(statements)
        row = await statements.fetch_one(f"SELECT {_COLUMNS} FROM keys WHERE id = ?", identity)
        assert row is not None
    return _key(row)


def _key(row: Row) -> KeyRecord:
    identity, name, role, digest, created_at, created_by, revoked_at = row
    return KeyRecord(
        identity,
        name,
        Role(role),
        bytes.fromhex(digest),
        moment(created_at),
        created_by,
        moment(revoked_at) if revoked_at is not None else None,
    )
