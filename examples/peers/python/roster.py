# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0

"""The folder through which the members of one group know of one another.

group.json, initial.model and parts/ are written by the launcher before anybody starts; members/NAME.json
by a peer when it joins; peers.json by the launcher whenever somebody came or went. Files are replaced
whole, so a reader never sees half of one.
"""

import json
import os
import re
import tempfile

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_MAX_FILE = 4 << 20


def name_ok(name):
    """Whether name can name a peer or a group."""
    return _NAME.fullmatch(name) is not None


class Dir:
    """The folder of a group."""

    def __init__(self, path):
        self._path = path
        self.peers = os.path.join(path, "peers.json")
        self.initial = os.path.join(path, "initial.model")

    def group(self):
        """What all members share."""
        group = _read(os.path.join(self._path, "group.json"))
        wanted = {
            "group": str, "dataset": str, "data": str, "parts": int, "seed": int,
            "rate": (int, float), "decay": (int, float), "epoch": int,
            "interval": (int, float), "duty": (int, float), "fanout": int,
        }  # fmt: skip
        for key, kind in wanted.items():
            if not isinstance(group.get(key), kind) or (kind is not str and key != "seed" and group[key] <= 0):
                raise ValueError(f"group.json: {key} is missing or out of range")
        return group

    def part(self, number):
        """The path of a part of the data."""
        return os.path.join(self._path, "parts", f"part-{number:03d}.idx")

    def member_path(self, peer):
        return os.path.join(self._path, "members", f"{peer}.json")

    def members(self):
        """All member files that make sense."""
        out = []
        for name in os.listdir(os.path.join(self._path, "members")):
            if name.startswith(".") or not name.endswith(".json"):
                continue
            try:
                out.append(_read(os.path.join(self._path, "members", name)))
            except (OSError, ValueError):
                continue  # left in this moment, or broken: the launcher reports those
        return out

    def join(self, member):
        """Writes the member's file, or writes it again."""
        _replace(self.member_path(member["peer"]), json.dumps(member, indent=2).encode() + b"\n")

    def joined(self, peer):
        """Whether the member's file is there."""
        return os.path.exists(self.member_path(peer))

    def leave(self, peer):
        """Removes the member's file."""
        try:
            os.remove(self.member_path(peer))
        except FileNotFoundError:
            pass

    def read_peers(self):
        """Everybody: a list of objects with peer, address and neighbours."""
        return _read(self.peers)


def _read(path):
    if os.path.getsize(path) > _MAX_FILE:
        raise ValueError(f"{path}: too large")
    with open(path, "rb") as stream:
        return json.load(stream)


def _replace(path, body):
    handle, temporary = tempfile.mkstemp(prefix=".", dir=os.path.dirname(path))
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(body)
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
