"""The signed envelope around a statement: DSSE, which in-toto and SLSA tools read."""

from __future__ import annotations

import base64
import binascii
import json

from bundle.archive import canonical
from bundle.errors import CheckFailed
from bundle.seal.signer import Signer
from bundle.seal.trust import Trust

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def encode(payload: bytes) -> bytes:
    """Return what is signed: DSSE's pre-authentication encoding (PAE) of type and payload."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def wrap(payload: bytes, signer: Signer) -> bytes:
    """Return the envelope of a statement as canonical JSON."""
    signature = signer.sign(encode(payload))
    document = {
        "payloadType": PAYLOAD_TYPE,
        "payload": base64.b64encode(payload).decode(),
        "signatures": [{"keyid": signer.key_id, "sig": base64.b64encode(signature).decode()}],
    }
    return canonical.dumps(document) + b"\n"


def check(data: bytes, payload: bytes, trust: Trust | None, where: str) -> None:
    """Hold an envelope against the statement that it should have, and against whom we trust when that is given.

    Raises:
        CheckFailed: it is no envelope, has another statement, or no signature that counts.
    """
    try:
        document = json.loads(data)
        kind = document["payloadType"]
        inside = base64.b64decode(document["payload"], validate=True)
        signatures = [base64.b64decode(row["sig"], validate=True) for row in document["signatures"]]
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
        raise CheckFailed(f"{where}: not a DSSE envelope ({error})") from error
    if kind != PAYLOAD_TYPE or inside != payload or len(signatures) != 1:
        raise CheckFailed(f"{where}: not an envelope of the statement beside it")
    if trust is not None:
        trust.check(signatures[0], encode(payload), where)
