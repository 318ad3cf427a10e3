# Copyright The Periplus Authors
# SPDX-License-Identifier: Apache-2.0

"""The Prometheus series of one peer. All carry the labels peer and group."""

import os

os.environ.setdefault("PROMETHEUS_DISABLE_CREATED_SERIES", "True")  # read when the client is imported

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector  # noqa: E402
from prometheus_client.exposition import choose_encoder  # noqa: E402

from gossip import STATUS  # noqa: E402


class Series:
    """What a peer exports; the same names and labels as the Go peers'."""

    def __init__(self, member, dataset):
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._labels = {"peer": member["peer"], "group": member["group"]}

        self._make(Info, "info", "TrainNodes: where the peer runs and how others reach it. Always 1.").info(
            {key: member[key] for key in ("node", "location", "address")}
        )
        self._make(
            Info,
            "dataset",
            "The data set that the peer learns from; generated means that no real one was found. Always 1.",
        ).info({"dataset": dataset})
        self.trainings = self._make(
            Counter, "trainings_total", "total number of trainings: small epochs finished since the peer started."
        )
        self.accuracy = self._by(
            Gauge,
            "accuracy",
            "split",
            ("train", "test"),
            "model accuracy: share of samples classified correctly after the last round, "
            "on the peer's own train part and on the shared test set.",
        )
        self.loss = self._by(
            Gauge,
            "loss",
            "split",
            ("train", "test"),
            "Mean cross-entropy after the last round, on the peer's own train part and on the shared test set.",
        )
        self.round = self._make(
            Gauge, "round", "IterationNo, AggregationNo, currentRound: the round that the peer finished last."
        )
        self.samples = self._make(Gauge, "samples", "NodeSampleNum: samples in the peer's own part of the data.")
        self.training = self._make(
            Histogram,
            "training_seconds",
            "How long one small epoch took.",
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5),
        )
        self.published = self._make(
            Counter, "models_published_total", "Models handed to other peers, pushed or as an answer."
        )
        self.received = self._make(
            Counter, "models_received_total", "Models taken from other peers, pushed by them or as their answer."
        )
        self.refused = self._by(
            Counter,
            "models_refused_total",
            "reason",
            STATUS,
            "Models from other peers that were not taken, by reason.",
        )
        self.bytes = self._by(
            Counter,
            "model_bytes_total",
            "direction",
            ("sent", "received"),
            "Bytes of models exchanged with other peers, by direction (sent, received).",
        )
        self.last_update = self._make(
            Gauge, "last_update_seconds", "Unix time at which the peer's model changed last."
        )

    def _make(self, kind, name, documentation, **options):
        metric = kind(
            f"learning_peer_{name}" if name != "info" else "learning_peer",
            documentation,
            labelnames=tuple(self._labels),
            registry=self.registry,
            **options,
        )
        return metric.labels(**self._labels)

    def _by(self, kind, name, label, values, documentation):
        metric = kind(
            f"learning_peer_{name}", documentation, labelnames=(*self._labels, label), registry=self.registry
        )
        return {value: metric.labels(**self._labels, **{label: value}) for value in values}

    def expose(self, accept):
        """The exposition that an Accept header asks for, as (content type, body)."""
        encoder, content_type = choose_encoder(accept)
        return content_type, encoder(self.registry)

    def sent(self, size):
        """Counts a frame that went out whole."""
        self.published.inc()
        self.bytes["sent"].inc(size)

    def took(self, size):
        """Counts a frame that came in and was taken."""
        self.received.inc()
        self.bytes["received"].inc(size)
