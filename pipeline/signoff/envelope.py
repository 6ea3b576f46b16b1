"""Keys and DSSE envelopes (v1.0.0): JSON that is signed, and its only form."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from pipeline.core import jsontext
from pipeline.core.errors import UsageError

STATEMENT = "https://in-toto.io/Statement/v1"
PAYLOAD = "application/vnd.in-toto+json"

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
Json = dict[str, Any]


def canonical(value: Any) -> bytes:
    """JSON in the one form that is signed: keys in order, no space."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def load_private(path: Path, password: Callable[[], str]) -> PrivateKey:
    """An Ed25519 or ECDSA key from a PEM file; ``password`` is asked only if it is encrypted.

    Raises `UsageError`.
    """
    raw = _key_bytes(path)
    try:
        try:
            key = serialization.load_pem_private_key(raw, None)
        except TypeError:  # encrypted
            key = serialization.load_pem_private_key(raw, password().encode())
    except (ValueError, UnsupportedAlgorithm) as e:
        raise UsageError(f"{path} is not a private key in PEM that opens: {e}", hint=_HOW_TO) from None
    if not isinstance(key, (ed25519.Ed25519PrivateKey, ec.EllipticCurvePrivateKey)):
        raise UsageError(f"{path} is neither an Ed25519 nor an ECDSA key", hint=_HOW_TO)
    return key


def load_public(path: Path) -> PublicKey:
    """An Ed25519 or ECDSA public key from a PEM file; raises `UsageError`."""
    try:
        key = serialization.load_pem_public_key(_key_bytes(path))
    except (ValueError, UnsupportedAlgorithm) as e:
        raise UsageError(f"{path} is not a public key in PEM: {e}", hint=_HOW_TO) from None
    if not isinstance(key, (ed25519.Ed25519PublicKey, ec.EllipticCurvePublicKey)):
        raise UsageError(f"{path} is neither an Ed25519 nor an ECDSA key", hint=_HOW_TO)
    return key


_HOW_TO = (
    "`openssl genpkey -algorithm ed25519 -out key.pem` makes one, "
    "`openssl pkey -in key.pem -pubout -out pub.pem` its public half"
)


def _key_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise UsageError(f"the key {path} cannot be read: {e.strerror}", hint=_HOW_TO) from None


def _key_id(key: PublicKey) -> str:
    """sha256 of the key's SubjectPublicKeyInfo."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def _encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding of a payload."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def sign(statement: Json, key: PrivateKey) -> Json:
    """A DSSE envelope around a statement."""
    payload = canonical(statement)
    message = _encoded(payload)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(message)
    else:
        signature = key.sign(message, ec.ECDSA(hashes.SHA256()))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD,
        "signatures": [{"keyid": _key_id(key.public_key()), "sig": base64.b64encode(signature).decode()}],
    }


def opened(line: bytes, key: PublicKey) -> Json:
    """The statement in a line that holds an envelope signed with ``key``.

    Raises ValueError saying what is wrong; a line that is not in canonical form is wrong too.
    """
    envelope = jsontext.loads(line)
    if not isinstance(envelope, dict) or canonical(envelope) != line:
        raise ValueError("not an envelope as it was written")
    if envelope.keys() != {"payload", "payloadType", "signatures"} or envelope["payloadType"] != PAYLOAD:
        raise ValueError(f"not a DSSE envelope of {PAYLOAD}")
    payload = _decoded(envelope["payload"])
    signatures = envelope["signatures"]
    if not isinstance(signatures, list) or len(signatures) != 1 or signatures[0].keys() != {"keyid", "sig"}:
        raise ValueError("it must have exactly one signature")
    if signatures[0]["keyid"] != _key_id(key):
        raise ValueError(f"signed with another key ({str(signatures[0]['keyid'])[:16]}…)")
    signature = _decoded(signatures[0]["sig"])
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, _encoded(payload))
        else:
            key.verify(signature, _encoded(payload), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ValueError("the signature does not fit: it was changed after signing") from None
    statement = jsontext.loads(payload)
    if not isinstance(statement, dict) or statement.get("_type") != STATEMENT:
        raise ValueError("what was signed is not an in-toto statement")
    return statement


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("not base64")  # noqa: TRY004  # callers take ValueError for all that is wrong
    raw = base64.b64decode(text, validate=True)
    if base64.b64encode(raw).decode() != text:
        raise ValueError("not base64 in its only form")
    return raw
