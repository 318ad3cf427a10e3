# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0

"""Tests of the Python peer. Run: /usr/bin/python3 -m unittest discover -s python"""

import contextlib
import gzip
import http.client
import io
import json
import math
import os
import random
import struct
import tempfile
import threading
import time
import unittest
import zlib
from array import array

import gossip
import idx
import mlp
import roster
from circle import Circle, Server
from peer import Peer, _options
from prometheus_client.parser import text_string_to_metric_families
from series import Series

TESTDATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "testdata")
MEMBER = {"peer": "me", "group": "test", "node": "edge-1", "location": "edge", "address": "127.0.0.1:1"}


def idx_file(kind, dims, data):
    return bytes((0, 0, kind, len(dims))) + struct.pack(f">{len(dims)}I", *dims) + data


def tiny(**changes):
    model = gossip.Model(
        "peer-1",
        "fashion",
        7,
        4230,
        (2, 3, 2),
        array("f", [0, 1, -1, 0.5, -0.25, 3.14159, 100, -100, 1e-20, 2, 3, 4, 5, 6, 7, 8, 9]),
    )
    for key, value in changes.items():
        setattr(model, key, value)
    return model


def seal(frame):
    """Puts the right checksum under a frame that was changed."""
    return bytes(frame[:-4]) + struct.pack("<I", zlib.crc32(frame[:-4]))


class IdxTest(unittest.TestCase):
    def test_items_in_order(self):
        reader = idx.Reader(io.BytesIO(idx_file(idx.UINT8, (2, 1, 3), b"abcdef")), idx.UINT8)
        self.assertEqual((2, 1, 3), reader.dims)
        self.assertEqual([b"abc", b"def"], list(reader))

    def test_broken_files_raise(self):
        for name, body in {
            "empty": b"",
            "magic": idx_file(idx.UINT8, (1,), b"x").replace(b"\0", b"\1", 1),
            "type": idx_file(0x0D, (1,), b"xxxx"),
            "other type": idx_file(idx.INT32, (1,), b"xxxx"),
            "dimensions": b"\0\0\x08\0",
            "many dimensions": b"\0\0\x08\xff",
            "huge": idx_file(idx.UINT8, (1 << 30,), b""),
            "huge items": idx_file(idx.UINT8, (1, 1 << 20, 1 << 20), b""),
        }.items():
            with self.subTest(name), self.assertRaises(idx.FormatError):
                idx.Reader(io.BytesIO(body), idx.UINT8)

    def test_short_file_raises(self):
        reader = idx.Reader(io.BytesIO(idx_file(idx.UINT8, (2, 2), b"abc")), idx.UINT8)
        with self.assertRaises(idx.FormatError):
            list(reader)

    def test_random_bytes_never_surprise(self):
        rng = random.Random(1)
        for _ in range(2000):
            body = bytes((0, 0, 8, rng.randrange(6))) + rng.randbytes(rng.randrange(40))
            try:
                list(idx.Reader(io.BytesIO(body), idx.UINT8))
            except idx.FormatError:
                pass

    def test_compressed_and_cut(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "labels.gz")
            packed = gzip.compress(idx_file(idx.UINT8, (1000,), random.Random(1).randbytes(1000)))
            for body, fine in ((packed, True), (packed[:500], False), (b"junk", False)):
                with open(path, "wb") as stream:
                    stream.write(body)
                if fine:
                    self.assertEqual(1000, len(idx.read_bytes(path)))
                else:
                    self.assertRaises(idx.FormatError, idx.read_bytes, path)

    def test_pool_takes_the_mean_of_four(self):
        image = bytearray(28 * 28)
        image[0], image[1], image[28], image[29] = 255, 255, 255, 255
        image[28 * 27 + 27] = 255
        pooled = idx.pool(bytes(image))
        self.assertEqual((196, 1.0, 0.25), (len(pooled), pooled[0], pooled[195]))
        self.assertEqual(1.25, sum(pooled))


class GossipTest(unittest.TestCase):
    def test_round_trip_and_committed_frame(self):
        with open(os.path.join(TESTDATA, "tiny.frame"), "rb") as stream:
            frame = stream.read()
        self.assertEqual(frame, gossip.encode(tiny()))
        self.assertEqual(tiny(), gossip.decode(frame))

    def test_bad_frames_are_refused(self):
        good = gossip.encode(tiny())

        def with_bytes(at, data):
            return seal(good[:at] + data + good[at + len(data) :])

        weight = 24 + 12 + 6 + 7
        for name, frame, reason in (
            ("empty", b"", "malformed"),
            ("garbage", b"garbage " * 50, "malformed"),
            ("magic", with_bytes(0, b"X"), "malformed"),
            ("version", with_bytes(4, b"\2"), "version"),
            ("flipped bit", good[:60] + bytes((good[60] ^ 1,)) + good[61:], "checksum"),
            ("torn", good[:-9], "checksum"),
            ("torn and sealed", seal(good[:-9]), "malformed"),
            ("oversize", bytes(gossip.MAX_FRAME + 1), "oversize"),
            ("255 layers", with_bytes(7, b"\xff"), "malformed"),
            ("one layer", with_bytes(7, b"\1"), "malformed"),
            ("huge layer", with_bytes(24, b"\xff\xff\xff\xff"), "malformed"),
            ("giant", with_bytes(24, b"\0\0\x10\0"), "oversize"),
            ("name", with_bytes(36, b"../../"), "malformed"),
            ("round", with_bytes(15, b"\xff"), "values"),
            ("NaN", with_bytes(weight, struct.pack("<f", math.nan)), "values"),
            ("NaN later", with_bytes(weight + 8, struct.pack("<f", math.nan)), "values"),
            ("infinity", with_bytes(weight, struct.pack("<f", math.inf)), "values"),
            ("huge weight", with_bytes(weight, struct.pack("<f", -101)), "values"),
        ):
            with self.subTest(name), self.assertRaises(gossip.Refusal) as caught:
                gossip.decode(frame)
            self.assertEqual(reason, caught.exception.reason, name)

    def test_random_changes_never_surprise(self):
        rng = random.Random(1)
        good = gossip.encode(tiny())
        for _ in range(5000):
            frame = bytearray(good)
            for _ in range(rng.randrange(1, 4)):
                frame[rng.randrange(len(frame))] = rng.randrange(256)
            del frame[rng.randrange(len(frame) // 2, len(frame) + 1) :]
            try:
                model = gossip.decode(seal(frame))
            except gossip.Refusal:
                continue
            self.assertTrue(all(abs(w) <= gossip.MAX_WEIGHT for w in model.weights))


class MlpTest(unittest.TestCase):
    SHAPE = (6, 8, 3)

    def net(self, seed=1):
        rng = random.Random(seed)
        return mlp.Net([rng.gauss(0, 0.5) for _ in range(mlp.size(self.SHAPE))], self.SHAPE)

    def samples(self, count=200):
        rng = random.Random(2)
        xs = [[rng.random() / 2 for _ in range(6)] for _ in range(count)]
        for i, x in enumerate(xs):
            x[2 * (i % 3)] += 0.7
        return xs, [i % 3 for i in range(count)]

    def test_training_decreases_the_loss(self):
        net, (xs, ys) = self.net(), self.samples()
        _, before = net.evaluate(xs, ys)
        for _ in range(10):
            for x, y in zip(xs, ys):
                net.step(x, y, 0.05)
        accuracy, after = net.evaluate(xs, ys)
        self.assertLess(after, before / 2)
        self.assertGreater(accuracy, 0.95)

    def test_step_follows_the_gradient(self):
        (x, *_), (y, *_) = self.samples()
        start = self.net().flat()
        net = mlp.Net(start, self.SHAPE)
        net.step(x, y, 1.0)
        delta = 1e-5
        for i, (before, after) in enumerate(zip(start, net.flat())):
            losses = []
            for shift in (delta, -delta):
                moved = list(start)
                moved[i] += shift
                losses.append(mlp.Net(moved, self.SHAPE).evaluate([x], [y])[1])
            self.assertAlmostEqual((losses[0] - losses[1]) / (2 * delta), before - after, places=4)

    def test_weights_travel_whole(self):
        flat = [float(i) for i in range(mlp.size(self.SHAPE))]
        self.assertEqual(flat, mlp.Net(flat, self.SHAPE).flat())
        self.assertRaises(ValueError, mlp.Net, flat[1:], self.SHAPE)

    def test_average_is_weighted_by_samples(self):
        self.assertEqual([4, 8], mlp.average([([1, 2], 1), ([5, 10], 3)]))
        self.assertEqual([1, 2], mlp.average([([1, 2], 0)]))


class ServerTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        with open(os.path.join(folder.name, "peers.json"), "w") as stream:
            json.dump(
                [
                    {"peer": "me", "address": "a:0", "neighbours": ["b", "gone"]},
                    {"peer": "b", "address": "a:1", "neighbours": ["me"]},
                ],
                stream,
            )
        self.series = Series(MEMBER, "fashion-mnist")
        self.circle = Circle(MEMBER, (2, 3, 2), self.series, roster.Dir(folder.name))
        self.assertTrue(self.circle.refresh())
        self.circle.show(gossip.encode(tiny(peer="me", group="test")))
        server = Server(("127.0.0.1", 0))
        server.circle = self.circle
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.address = "127.0.0.1:%d" % server.server_address[1]
        self.addCleanup(lambda: (server.shutdown(), thread.join(), server.server_close()))

    def metric(self, name, **labels):
        labels |= {"peer": "me", "group": "test"}
        return self.series.registry.get_sample_value(f"learning_peer_{name}", labels)

    def test_exchange(self):
        answer = gossip.request("POST", self.address, gossip.encode(tiny(peer="b", group="test")))
        self.assertEqual("me", gossip.decode(answer).peer)
        self.assertEqual(["b"], [m.peer for m in self.circle.empty()])
        self.assertEqual("me", gossip.decode(gossip.request("GET", self.address)).peer)
        self.assertEqual((1, 2), (self.metric("models_received_total"), self.metric("models_published_total")))
        self.assertEqual(2 * len(answer), self.metric("model_bytes_total", direction="sent"))

    def test_bad_models_are_refused_and_counted(self):
        nan = array("f", [math.nan] * 17)
        for frame, status, reason in (
            (b"hello", 400, "malformed"),
            (gossip.encode(tiny(peer="b", group="test", weights=nan)), 422, "values"),
            (gossip.encode(tiny(peer="b")), 409, "group"),
            (gossip.encode(tiny(peer="b", group="test", shape=(2, 2), weights=array("f", [0] * 6))), 409, "shape"),
            (gossip.encode(tiny(peer="nobody", group="test")), 403, "stranger"),
            (bytes(gossip.MAX_FRAME + 1), 413, "oversize"),
        ):
            with self.subTest(reason):
                before = self.metric("models_refused_total", reason=reason)
                connection = http.client.HTTPConnection(self.address, timeout=5)
                self.addCleanup(connection.close)
                connection.putrequest("POST", gossip.PATH)
                connection.putheader("Content-Length", str(len(frame)))
                connection.endheaders(frame if len(frame) < gossip.MAX_FRAME else None)
                self.assertEqual(status, connection.getresponse().status)
                self.assertEqual(before + 1, self.metric("models_refused_total", reason=reason))
        self.assertEqual([], self.circle.empty())
        self.assertEqual(0, self.metric("models_received_total"))

    def test_metrics_are_those_of_the_go_peer(self):
        connection = http.client.HTTPConnection(self.address, timeout=5)
        self.addCleanup(connection.close)
        connection.request("GET", "/metrics")
        body = connection.getresponse().read().decode()
        got = {}
        for family in text_string_to_metric_families(body):
            for sample in family.samples:
                if sample.name.startswith("learning_"):
                    got[sample.name] = ",".join(sorted(sample.labels))
        self.assertEqual(
            {
                "learning_peer_accuracy": "group,peer,split",
                "learning_peer_dataset_info": "dataset,group,peer",
                "learning_peer_info": "address,group,location,node,peer",
                "learning_peer_last_update_seconds": "group,peer",
                "learning_peer_loss": "group,peer,split",
                "learning_peer_model_bytes_total": "direction,group,peer",
                "learning_peer_models_published_total": "group,peer",
                "learning_peer_models_received_total": "group,peer",
                "learning_peer_models_refused_total": "group,peer,reason",
                "learning_peer_round": "group,peer",
                "learning_peer_samples": "group,peer",
                "learning_peer_training_seconds_bucket": "group,le,peer",
                "learning_peer_training_seconds_count": "group,peer",
                "learning_peer_training_seconds_sum": "group,peer",
                "learning_peer_trainings_total": "group,peer",
            },
            got,
        )

    def test_list_is_read_again_when_it_changes(self):
        self.assertEqual([("b", "a:1")], self.circle.choose(random.Random(1), 5))
        with open(self.circle._dir.peers + ".new", "w") as stream:
            json.dump([], stream)
        os.replace(self.circle._dir.peers + ".new", self.circle._dir.peers)
        self.assertFalse(self.circle.refresh())
        self.assertEqual([], self.circle.choose(random.Random(1), 5))


class PeerTest(unittest.TestCase):
    def test_alone_it_joins_learns_and_leaves(self):
        log = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(log):
            self.group(folder)
            stop = threading.Event()
            peer = Peer(_options(["--join", folder, "--name", "me"]), stop)
            thread = threading.Thread(target=peer.run)
            thread.start()
            directory = roster.Dir(folder)
            deadline = time.monotonic() + 30
            while peer._round < 60 and time.monotonic() < deadline:
                stop.wait(0.05)
            joined = directory.joined("me")
            stop.set()
            thread.join(10)
            self.assertTrue(joined)
            self.assertFalse(directory.joined("me"))
            accuracy = peer._series.registry.get_sample_value(
                "learning_peer_accuracy", {"peer": "me", "group": "test", "split": "test"}
            )
            self.assertGreater(accuracy, 0.5)
        lines = [json.loads(line) for line in log.getvalue().splitlines()]
        self.assertEqual(["no real data set was found: this peer learns from GENERATED images", "joined", "round"],
                         [line["msg"] for line in lines[:3]])  # fmt: skip
        self.assertEqual(
            {"time", "level", "msg", "peer", "group", "round", "loss", "accuracy", "neighbours", "merged"},
            set(lines[2]),
        )

    def group(self, folder):
        """Two classes, bright above or bright below, 200 samples."""
        for name in ("members", "parts"):
            os.mkdir(os.path.join(folder, name))
        rng = random.Random(1)
        labels = bytes(rng.randrange(2) for _ in range(200))
        images = b"".join(
            bytes(rng.randrange(200) + (50 if (i < 392) == (label == 0) else 0) for i in range(784)) for label in labels
        )
        for prefix in ("train", "t10k"):
            for suffix, body in (
                ("images-idx3-ubyte", idx_file(idx.UINT8, (200, 28, 28), images)),
                ("labels-idx1-ubyte", idx_file(idx.UINT8, (200,), labels)),
            ):
                with open(os.path.join(folder, f"{prefix}-{suffix}"), "wb") as stream:
                    stream.write(body)
        with open(os.path.join(folder, "parts", "part-000.idx"), "wb") as stream:
            stream.write(idx_file(idx.INT32, (200,), struct.pack(">200i", *range(200))))
        weights = array("f", (rng.gauss(0, 0.1) for _ in range(mlp.size(mlp.SHAPE))))
        with open(os.path.join(folder, "initial.model"), "wb") as stream:
            stream.write(gossip.encode(gossip.Model("initial", "test", 0, 0, mlp.SHAPE, weights)))
        with open(os.path.join(folder, "peers.json"), "w") as stream:
            stream.write("[]")
        with open(os.path.join(folder, "group.json"), "w") as stream:
            json.dump(
                {
                    "group": "test", "dataset": "generated", "data": folder, "parts": 1, "seed": 1, "rate": 0.01,
                    "decay": 400, "epoch": 20, "interval": 0.01, "duty": 1, "fanout": 2,
                },  # fmt: skip
                stream,
            )


if __name__ == "__main__":
    unittest.main()
