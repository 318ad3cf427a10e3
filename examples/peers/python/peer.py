# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0

"""One participant of decentralised learning, in Python.

It does what the Go peer does, with the same files and the same protocol (README.md, PROTOCOL.md): in each
round it trains on a few of its own samples, meets a few neighbours, takes the mean of its model and those
that came in, publishes it, and rests. Needs prometheus_client; everything else is the standard library.
"""

import argparse
import json
import os
import random
import signal
import sys
import threading
import time

import gossip
import idx
import mlp
from circle import Circle, Server
from roster import Dir, name_ok
from series import Series

TEST_SAMPLES = 500  # half of what the Go peers evaluate, and less often: it takes fifty times as long here
TRAIN_SAMPLES = 200
EVALUATE_EVERY = 5  # rounds
MAX_TRUST = 4
STALE_ROUNDS = 10


class Log:
    """Structured JSON lines on stderr, in the form of the Go peers'."""

    def __init__(self, **always):
        self._always = always

    def __call__(self, level, msg, **facts):
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        line = {"time": stamp, "level": level, "msg": msg, **self._always, **facts}
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()


class Peer:
    """One participant; run() does everything until the stop event is set."""

    def __init__(self, options, stop):
        self._stop = stop
        self._dir = Dir(options.join)
        self._group = self._dir.group()
        part = options.part if options.part >= 0 else self._free_part()
        self._rng = random.Random(self._group["seed"] << 16 | part)
        self._load(part)
        self._server = Server(_address(options.listen))
        host, port = self._server.server_address[:2]
        self._member = {
            "peer": options.name,
            "group": self._group["group"],
            "address": f"{host}:{port}",
            "node": options.node,
            "location": options.location,
            "language": "python",
            "part": part,
            "pid": os.getpid(),
        }
        self._log = Log(peer=options.name, group=self._group["group"])
        self._series = Series(self._member, self._group["dataset"])
        self._series.samples.set(len(self._train[1]))
        self._circle = Circle(self._member, mlp.SHAPE, self._series, self._dir)
        self._server.circle = self._circle
        self._round = 0
        self._blind = False  # the list of peers is not readable

    def _free_part(self):
        taken = {m.get("part") for m in self._dir.members()}
        return next((i for i in range(self._group["parts"]) if i not in taken), len(taken) % self._group["parts"])

    def _load(self, part):
        with open(self._dir.initial, "rb") as stream:
            self._net = mlp.Net(gossip.decode(stream.read(gossip.MAX_FRAME + 1)).weights)
        data = self._group["data"]
        keep = idx.read_int32s(self._dir.part(part))
        xs, ys = idx.load(data, "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", keep=keep)
        if not xs:
            raise idx.FormatError(f"part {part} has no samples")
        pairs = list(zip(xs, ys))
        self._rng.shuffle(pairs)
        self._train = [x for x, _ in pairs], [y for _, y in pairs]
        self._test = idx.load(data, "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz", limit=TEST_SAMPLES)

    def run(self):
        """Joins, learns until told to stop, leaves."""
        self._publish()
        self._evaluate()
        serving = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2})
        serving.start()
        try:
            if self._taken():
                raise SystemExit(f"peer name {self._member['peer']} is taken by a peer that answers")
            self._dir.join(self._member)
            if self._group["dataset"] != "fashion-mnist":
                self._log(
                    "WARN",
                    "no real data set was found: this peer learns from GENERATED images",
                    dataset=self._group["dataset"],
                )
            self._log(
                "INFO",
                "joined",
                **{key: self._member[key] for key in ("address", "node", "location", "part")},
                samples=len(self._train[1]),
                dataset=self._group["dataset"],
            )
            self._catch_up()
            while not self._stop.is_set():
                self._turn()
            self._dir.leave(self._member["peer"])
            self._log("INFO", "left", round=self._round)
        finally:
            self._server.shutdown()
            serving.join()
            self._server.server_close()

    def _taken(self):
        for member in self._dir.members():
            if member.get("peer") == self._member["peer"]:
                try:
                    gossip.request("GET", member["address"], timeout=1)
                    return True
                except (OSError, KeyError, ValueError):
                    return False
        return False

    def _catch_up(self):
        """Waits to be listed, then begins where the neighbours are."""
        for _ in range(25):
            if self._refresh() or self._stop.wait(0.2):
                break
        for name, address in self._circle.choose(self._rng, 8):
            self._ask("GET", name, address, None)
        models = [m for m in self._circle.empty() if m.round > 0]
        if not models:
            return
        self._net.set_flat(mlp.average([(m.weights, 1) for m in models]))
        self._round = sorted(m.round for m in models)[len(models) // 2]  # the median: one liar cannot move it
        self._evaluate()
        self._publish()
        self._log("INFO", "caught up", round=self._round, models=len(models))

    def _refresh(self):
        try:
            listed = self._circle.refresh()
            self._blind = False
            return listed
        except (OSError, ValueError, KeyError, TypeError) as err:
            if not self._blind:  # once, not every round
                self._log("WARN", "list of peers not readable: the last one stays in use", err=str(err))
            self._blind = True
            return False

    def _turn(self):
        """One round and the rest after it."""
        began, cpu = time.monotonic(), time.process_time()
        self._refresh()
        if not self._dir.joined(self._member["peer"]):  # we hung for a while and were taken for dead
            self._dir.join(self._member)
        self._round += 1
        loss = self._train_once()
        self._publish()
        met = [
            name
            for name, address in self._circle.choose(self._rng, self._group["fanout"])
            if self._ask("POST", name, address, self._circle.current())
        ]
        merged = self._merge()
        self._publish()
        self._series.round.set(self._round)
        if self._round % EVALUATE_EVERY == 1:
            accuracy = self._evaluate()
            self._log(
                "INFO", "round", round=self._round, loss=loss, accuracy=accuracy, neighbours=met, merged=merged
            )
        used = time.process_time() - cpu
        pause = max(self._group["interval"], used / self._group["duty"])
        self._stop.wait(max(0.0, pause - (time.monotonic() - began)))

    def _train_once(self):
        began = time.perf_counter()
        xs, ys = self._train
        rate = self._group["rate"] / (1 + self._round / self._group["decay"])
        loss = 0.0
        for _ in range(self._group["epoch"]):
            i = self._rng.randrange(len(ys))
            loss += self._net.step(xs[i], ys[i], rate)
        self._series.training.observe(time.perf_counter() - began)
        self._series.trainings.inc()
        return loss / self._group["epoch"]

    def _ask(self, method, name, address, frame):
        """Meets one neighbour; what it answers goes to the inbox. False when it gave nothing."""
        try:
            answer = gossip.request(method, address, frame)
            if frame is not None:
                self._series.sent(len(frame))
            self._circle.take(answer)
            return True
        except (OSError, ValueError, gossip.Refusal):
            return False  # gone, or counted as refused: the next round meets others

    def _merge(self):
        """Averages what came in into the model; returns how many models that were."""
        own = len(self._train[1])
        parts = [(self._net.flat(), own)]
        for model in self._circle.empty():
            if model.round * 2 + STALE_ROUNDS < self._round:
                self._circle.refuse("stale")
                continue
            parts.append((model.weights, min(model.samples, MAX_TRUST * own)))
        if len(parts) > 1:
            self._net.set_flat(mlp.average(parts))
        return len(parts) - 1

    def _publish(self):
        model = gossip.Model(
            self._member["peer"],
            self._member["group"],
            self._round,
            len(self._train[1]),
            mlp.SHAPE,
            self._net.flat(),
        )
        self._circle.show(gossip.encode(model))
        self._series.last_update.set_to_current_time()

    def _evaluate(self):
        self._series.round.set(self._round)
        for split, (xs, ys), count in (
            ("train", self._train, TRAIN_SAMPLES),
            ("test", self._test, TEST_SAMPLES),
        ):
            accuracy, loss = self._net.evaluate(xs[:count], ys[:count])
            self._series.accuracy[split].set(accuracy)
            self._series.loss[split].set(loss)
        return accuracy


def _address(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _options(args):
    parser = argparse.ArgumentParser(description="one peer of a fleet that runs")
    parser.add_argument("--join", default=".run/fleet", help="folder of the group to join")
    parser.add_argument("--name", default=f"guest-{os.getpid()}", help="name of the peer")
    parser.add_argument("--node", default="edge-guest", help="node the peer says it runs on")
    parser.add_argument("--location", default="edge", choices=("edge", "cloud"))
    parser.add_argument("--listen", default="127.0.0.1:0", help="address to listen on; port 0 is a free one")
    parser.add_argument("--part", type=int, default=-1, help="its part of the data; -1 is the first that is free")
    options = parser.parse_args(args)
    if not name_ok(options.name):
        parser.error(f"peer name {options.name!r}: want letters, digits, dots, dashes and underscores")
    return options


def main():
    stop = threading.Event()
    # A thread waits for the signals. A handler would run inside whatever the main thread does, and if that is
    # stop.wait(), which holds the lock that stop.set() needs, the peer would hang for ever.
    ending = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    threading.Thread(target=lambda: (signal.sigwait(ending), stop.set()), daemon=True).start()
    try:
        Peer(_options(sys.argv[1:]), stop).run()
    except (OSError, ValueError, gossip.Refusal) as err:
        sys.exit(f"peer: {err}")


if __name__ == "__main__":
    main()
