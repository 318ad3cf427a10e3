// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/periplus-io/periplus/examples/peers/internal/gossip"
	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

// metrics are the series of one peer. All carry the labels peer and group. The HELP texts begin with the
// name under which the quantity is known elsewhere.
type metrics struct {
	trainings  prometheus.Counter
	accuracy   *prometheus.GaugeVec
	loss       *prometheus.GaugeVec
	round      prometheus.Gauge
	samples    prometheus.Gauge
	training   prometheus.Histogram
	published  prometheus.Counter
	received   prometheus.Counter
	refused    *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	lastUpdate prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, m roster.Member, dataset string) *metrics {
	f := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"peer": m.Peer, "group": m.Group}, reg))
	f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "learning_peer_info",
		Help: "TrainNodes: where the peer runs and how others reach it. Always 1.",
	}, []string{"node", "location", "address"}).WithLabelValues(m.Node, m.Location, m.Address).Set(1)
	f.NewGaugeVec(prometheus.GaugeOpts{
		Name: "learning_peer_dataset_info",
		Help: "The data set that the peer learns from; generated means that no real one was found. Always 1.",
	}, []string{"dataset"}).WithLabelValues(dataset).Set(1)
	out := &metrics{
		trainings: f.NewCounter(prometheus.CounterOpts{
			Name: "learning_peer_trainings_total",
			Help: "total number of trainings: small epochs finished since the peer started.",
		}),
		accuracy: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "learning_peer_accuracy",
			Help: "model accuracy: share of samples classified correctly after the last round, on the peer's own train part and on the shared test set.",
		}, []string{"split"}),
		loss: f.NewGaugeVec(prometheus.GaugeOpts{
			Name: "learning_peer_loss",
			Help: "Mean cross-entropy after the last round, on the peer's own train part and on the shared test set.",
		}, []string{"split"}),
		round: f.NewGauge(prometheus.GaugeOpts{
			Name: "learning_peer_round",
			Help: "IterationNo, AggregationNo, currentRound: the round that the peer finished last.",
		}),
		samples: f.NewGauge(prometheus.GaugeOpts{
			Name: "learning_peer_samples",
			Help: "NodeSampleNum: samples in the peer's own part of the data.",
		}),
		training: f.NewHistogram(prometheus.HistogramOpts{
			Name:                            "learning_peer_training_seconds",
			Help:                            "How long one small epoch took.",
			Buckets:                         []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}),
		published: f.NewCounter(prometheus.CounterOpts{
			Name: "learning_peer_models_published_total",
			Help: "Models handed to other peers, pushed or as an answer.",
		}),
		received: f.NewCounter(prometheus.CounterOpts{
			Name: "learning_peer_models_received_total",
			Help: "Models taken from other peers, pushed by them or as their answer.",
		}),
		refused: f.NewCounterVec(prometheus.CounterOpts{
			Name: "learning_peer_models_refused_total",
			Help: "Models from other peers that were not taken, by reason.",
		}, []string{"reason"}),
		bytes: f.NewCounterVec(prometheus.CounterOpts{
			Name: "learning_peer_model_bytes_total",
			Help: "Bytes of models exchanged with other peers, by direction (sent, received).",
		}, []string{"direction"}),
		lastUpdate: f.NewGauge(prometheus.GaugeOpts{
			Name: "learning_peer_last_update_seconds",
			Help: "Unix time at which the peer's model changed last.",
		}),
	}
	for _, r := range gossip.Reasons() {
		out.refused.WithLabelValues(r)
	}
	out.bytes.WithLabelValues("sent")
	out.bytes.WithLabelValues("received")
	return out
}
