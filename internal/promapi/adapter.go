// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package promapi

import (
	"context"
	"net/http"

	"github.com/grafana/regexp"
	apiv1 "github.com/prometheus/prometheus/web/api/v1"
)

// newV1 is the one place that knows the order of Prometheus' constructor.
func newV1(o Options, cors *regexp.Regexp, ready func(http.HandlerFunc) http.HandlerFunc) *apiv1.API {
	return apiv1.NewAPI(
		queuedEngine{o.Engine, o.Limits.QueueTimeout},
		o.Storage,
		nil, nil, // appenders: the intake is another room
		o.Exemplars,
		func(context.Context) apiv1.ScrapePoolsRetriever { return o.Targets },
		func(context.Context) apiv1.TargetRetriever { return o.Targets },
		func(context.Context) apiv1.AlertmanagerRetriever { return o.Alertmanagers },
		o.Prometheus,
		o.Flags,
		apiv1.GlobalURLOptions{ListenAddress: o.Listen, Host: o.ExternalURL.Host, Scheme: o.ExternalURL.Scheme},
		ready,
		o.TSDB,
		o.TSDBDir,
		o.Admin,
		true, o.Limits.SearchLimit,
		o.Log,
		func(context.Context) apiv1.RulesRetriever { return o.Rules },
		o.Limits.ReadSamples,
		o.Limits.ReadConcurrency,
		o.Limits.ReadFrameBytes,
		false, // not an agent
		cors,
		o.Runtime,
		&o.Version,
		o.Notifications.Get,
		o.Notifications.Sub,
		o.Gatherer,
		nil,        // its own metrics carry the prefix of another program; ours are in metrics.go
		nil,        // the default statistics of queries
		false, nil, // remote write
		false, false, false, // OTLP
		false, // start-time zero samples
		o.Lookback,
		false, // type and unit labels
		false, // metadata in the write-ahead log
		statusOf,
		describeFeatures(o.Features, o.Admin),
		apiv1.OpenAPIOptions{ExternalURL: o.ExternalURL.String(), Version: o.Version.Version, MaxSearchLimit: o.Limits.SearchLimit},
		o.Parser,
	)
}

// statusOf corrects the one status code of Prometheus that would not tell a client to come back. It is
// generic because Prometheus does not export the type of its error numbers.
func statusOf[number ~int](kind number, _ error) (int, bool) {
	return http.StatusServiceUnavailable, int(kind) == int(apiv1.ErrorUnavailable)
}
