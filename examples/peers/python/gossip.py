# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0

"""The protocol in which peers exchange models (PROTOCOL.md): frames, and the client's side of HTTP.

Whatever comes from another peer is suspect: decode() raises Refusal, with a reason from a short fixed
list, for frames that are too large, torn, of another version, or that carry impossible numbers.
"""

import http.client
import struct
import zlib
from array import array
from dataclasses import dataclass, field
from sys import byteorder

from roster import name_ok

PATH = "/gossip/model"
CONTENT_TYPE = "application/vnd.periplus.gossip"

MAX_FRAME = 1 << 20
MAX_WEIGHT = 100.0

_MAGIC = b"PGSP"
_VERSION = 1
_FIXED = struct.Struct("<4sBBBBQQ")
_MAX_LAYERS = 8
_MAX_ROUND = 1 << 40

STATUS = {
    "oversize": 413,
    "malformed": 400,
    "version": 415,
    "checksum": 400,
    "values": 422,
    "group": 409,
    "shape": 409,
    "stranger": 403,
    "stale": 400,
}


class Refusal(Exception):
    """Says why a model was not taken; reason is a key of STATUS."""

    def __init__(self, reason, detail):
        super().__init__(f"model refused ({reason}): {detail}")
        self.reason = reason


@dataclass
class Model:
    """A peer's model at the end of a round."""

    peer: str
    group: str
    round: int
    samples: int
    shape: tuple
    weights: array = field(repr=False)


def _count(shape):
    if not 2 <= len(shape) <= _MAX_LAYERS:
        raise Refusal("malformed", f"{len(shape)} layers")
    total = 0
    for i, width in enumerate(shape):
        if not 1 <= width <= MAX_FRAME:
            raise Refusal("malformed", f"layer of {width}")
        if i > 0:
            total += (shape[i - 1] + 1) * width
        if total > MAX_FRAME // 4:
            raise Refusal("oversize", f"shape {shape}")
    return total


def encode(model):
    """The frame of a model."""
    if _count(model.shape) != len(model.weights):
        raise ValueError(f"{len(model.weights)} weights for shape {model.shape}")
    peer, group = model.peer.encode(), model.group.encode()
    if not (name_ok(model.peer) and name_ok(model.group)):
        raise ValueError(f"peer {model.peer!r} or group {model.group!r} is no name")
    weights = array("f", model.weights)
    if byteorder == "big":
        weights.byteswap()
    body = b"".join(
        (
            _FIXED.pack(_MAGIC, _VERSION, len(peer), len(group), len(model.shape), model.round, model.samples),
            struct.pack(f"<{len(model.shape)}I", *model.shape),
            peer,
            group,
            weights.tobytes(),
        )
    )
    return body + struct.pack("<I", zlib.crc32(body))


def decode(frame):
    """The model in a frame, or Refusal."""
    if len(frame) > MAX_FRAME:
        raise Refusal("oversize", f"{len(frame)} bytes")
    if len(frame) < _FIXED.size + 4 or frame[:4] != _MAGIC:
        raise Refusal("malformed", "no frame")
    _, version, peer_len, group_len, layers, round_, samples = _FIXED.unpack_from(frame)
    if version != _VERSION:
        raise Refusal("version", f"version {version}")
    body, (checksum,) = frame[:-4], struct.unpack("<I", frame[-4:])
    if zlib.crc32(body) != checksum:
        raise Refusal("checksum", f"checksum of {len(frame)} bytes")
    rest = body[_FIXED.size :]
    if len(rest) < 4 * layers + peer_len + group_len:
        raise Refusal("malformed", "header longer than the frame")
    shape = struct.unpack_from(f"<{layers}I", rest)
    rest = rest[4 * layers :]
    peer = rest[:peer_len].decode("latin-1")
    group = rest[peer_len : peer_len + group_len].decode("latin-1")
    rest = rest[peer_len + group_len :]
    if len(rest) != 4 * _count(shape):
        raise Refusal("malformed", f"{len(rest)} bytes of weights for shape {shape}")
    if not (name_ok(peer) and name_ok(group)):
        raise Refusal("malformed", "names")
    if round_ > _MAX_ROUND or samples > _MAX_ROUND:
        raise Refusal("values", f"round {round_}, samples {samples}")
    weights = array("f", rest)
    if byteorder == "big":
        weights.byteswap()
    # A NaN fails every comparison but hides from min() and max(): v != v finds it.
    if min(weights) < -MAX_WEIGHT or max(weights) > MAX_WEIGHT or any(v != v for v in weights):
        raise Refusal("values", "a weight is not a number or too large")
    return Model(peer, group, round_, samples, shape, weights)


def request(method, address, frame=None, timeout=2.0):
    """Sends a frame (POST) or nothing (GET) to a peer and returns the frame it answers with."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)
    try:
        connection.request(method, PATH, body=frame, headers={"Content-Type": CONTENT_TYPE})
        response = connection.getresponse()
        body = response.read(MAX_FRAME + 1)
        if response.status != 200:
            raise OSError(f"{method} {address}: {response.status} {body[:200].decode('latin-1').strip()}")
        return body
    except http.client.HTTPException as err:
        raise OSError(f"{method} {address}: {err!r}") from err
    finally:
        connection.close()
