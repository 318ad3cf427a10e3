# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0

"""Read IDX files, the format of MNIST and its like.

Two zero bytes, a type byte, the number of dimensions, each dimension as a big-endian uint32, then the
elements, big-endian. Unsigned bytes (images, labels) and int32 (lists of sample numbers) are known.
Headers are checked before anything is allocated; what is not an IDX file raises FormatError.
"""

import gzip
import math
import os
import struct

UINT8 = 0x08
INT32 = 0x0C

_WIDTH = {UINT8: 1, INT32: 4}
_MAX_ITEMS = 1 << 24
_MAX_ITEM_SIZE = 1 << 20


class FormatError(ValueError):
    """The bytes are not the IDX file that was asked for."""


class Reader:
    """Reads a stream item by item (an item is one element of the first dimension)."""

    def __init__(self, stream, kind):
        head = _exactly(stream, 4)
        if head[:2] != b"\0\0" or head[2] not in _WIDTH:
            raise FormatError(f"magic {head.hex()}")
        if head[2] != kind:
            raise FormatError(f"element type {head[2]:#x}, want {kind:#x}")
        if not 1 <= head[3] <= 4:
            raise FormatError(f"{head[3]} dimensions")
        self.dims = struct.unpack(f">{head[3]}I", _exactly(stream, 4 * head[3]))
        self.item_size = _WIDTH[kind] * math.prod(self.dims[1:])
        if self.dims[0] > _MAX_ITEMS or not 1 <= self.item_size <= _MAX_ITEM_SIZE:
            raise FormatError(f"dimensions {self.dims}")
        self._stream = stream

    def __iter__(self):
        for _ in range(self.dims[0]):
            yield _exactly(self._stream, self.item_size)


def _exactly(stream, size):
    try:
        data = stream.read(size)
    except (EOFError, OSError, gzip.zlib.error) as err:
        raise FormatError(f"not readable: {err}") from err
    if len(data) != size:
        raise FormatError("ends early")
    return data


def open_file(path):
    """Opens a file, decompressing it when its name ends in .gz."""
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")


def find(folder, name):
    """The path of the named .gz file in folder, or of the same without .gz."""
    for candidate in (name, name.removesuffix(".gz")):
        path = os.path.join(folder, candidate)
        if os.path.exists(path):
            return path
    raise FileNotFoundError(f"{folder}: neither {name} nor its plain form is there")


def read_bytes(path):
    """A whole one-dimensional file of bytes."""
    with open_file(path) as stream:
        reader = Reader(stream, UINT8)
        if len(reader.dims) != 1:
            raise FormatError(f"{path}: {len(reader.dims)} dimensions, want 1")
        return _exactly(stream, reader.dims[0])


def read_int32s(path):
    """A whole one-dimensional file of int32."""
    with open_file(path) as stream:
        reader = Reader(stream, INT32)
        if len(reader.dims) != 1:
            raise FormatError(f"{path}: {len(reader.dims)} dimensions, want 1")
        return list(struct.unpack(f">{reader.dims[0]}i", _exactly(stream, 4 * reader.dims[0])))


SIDE = 28
POOLED = SIDE // 2

_LEVELS = [total / (4 * 255) for total in range(4 * 255 + 1)]  # shared: a sample is then one list of pointers


def pool(image):
    """Means of 2 x 2 pixels of a 28 x 28 image, between 0 and 1."""
    out = []
    for y in range(0, SIDE * SIDE, 2 * SIDE):
        upper, lower = image[y : y + SIDE], image[y + SIDE : y + 2 * SIDE]
        out += [
            _LEVELS[a + b + c + d] for a, b, c, d in zip(upper[::2], upper[1::2], lower[::2], lower[1::2])
        ]
    return out


def load(folder, images, labels, keep=None, limit=0, classes=10):
    """The wanted samples of a data set as (inputs, labels).

    keep lists sample numbers in rising order; without it the first limit samples are taken.
    """
    all_labels = read_bytes(find(folder, labels))
    if keep is None:
        keep = range(min(limit, len(all_labels)))
    wanted = set(keep)
    xs, ys = [], []
    with open_file(find(folder, images)) as stream:
        reader = Reader(stream, UINT8)
        if reader.dims != (len(all_labels), SIDE, SIDE):
            raise FormatError(f"{images}: dimensions {reader.dims} do not fit {len(all_labels)} labels")
        for number, image in enumerate(reader):
            if len(xs) == len(wanted):
                break
            if number not in wanted:
                continue
            if all_labels[number] >= classes:
                raise FormatError(f"sample {number} has label {all_labels[number]}")
            xs.append(pool(image))
            ys.append(all_labels[number])
    if len(xs) != len(wanted):
        raise FormatError(f"{images}: {len(wanted) - len(xs)} of the wanted samples are not there")
    return xs, ys
