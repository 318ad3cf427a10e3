// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package prom_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/tsdbutil"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
)

// Debian's Prometheus scrapes itself and sends what it finds by remote write 1.0.
func TestRemoteWriteFromPrometheus(t *testing.T) {
	s := newSite(t, siteOptions{})
	prometheus(t, fmt.Sprintf(`
global: {scrape_interval: 1s, external_labels: {sender: debian}}
scrape_configs: [{job_name: self, static_configs: [{targets: [SELF]}]}]
remote_write: [{url: %q, send_exemplars: true, metadata_config: {send_interval: 1s}}]
`, s.url+"/api/v1/write"))
	eventually(t, 60*time.Second, value(t, s.url, `up{job="self",sender="debian"}`, 1))
	eventually(t, 30*time.Second, present(t, s.url, `prometheus_build_info{sender="debian"}`))
	eventually(t, 30*time.Second, func() error {
		_, text, err := get(t, s.url+"/api/v1/metadata?metric=prometheus_build_info")
		if err == nil && !strings.Contains(text, `"type":"gauge"`) {
			err = fmt.Errorf("metadata: %s", text)
		}
		return err
	})
	// Nothing of what it sends is refused.
	eventually(t, 30*time.Second, value(t, s.url, `sum(rate(prometheus_remote_storage_samples_failed_total[10s]))`, 0))
}

// A hub sends to a hub by remote write 2.0, native histograms and exemplars included.
func TestRemoteWriteFromHub(t *testing.T) {
	for _, message := range []string{"prometheus.WriteRequest", "io.prometheus.write.v2.Request"} {
		t.Run(message, func(t *testing.T) {
			upper := newSite(t, siteOptions{})
			lower := newSite(t, siteOptions{config: fmt.Sprintf(`
global: {external_labels: {site: quay}}
remote_write:
  - url: %q
    protobuf_message: %s
    send_native_histograms: true
    queue_config: {batch_send_deadline: 100ms}
`, upper.url+"/api/v1/write", message)})
			lower.add(0.5, "__name__", "learning_peer_accuracy", "peer", "a")
			app := lower.db.Appendable("state").Appender(t.Context())
			ls := labels.FromStrings("__name__", "learning_peer_training_seconds", "peer", "a")
			if _, err := app.AppendHistogram(0, ls, time.Now().UnixMilli(), tsdbutil.GenerateTestHistogram(1), nil); err != nil {
				t.Fatal(err)
			}
			if err := app.Commit(); err != nil {
				t.Fatal(err)
			}
			eventually(t, 30*time.Second, value(t, upper.url, `learning_peer_accuracy{site="quay"}`, 0.5))
			eventually(t, 30*time.Second, value(t, upper.url, `histogram_count(learning_peer_training_seconds{site="quay"})`, 21))
		})
	}
}

func TestOTLPFromGoExporter(t *testing.T) {
	s := newSite(t, siteOptions{config: "otlp: {promote_resource_attributes: [peer.group]}\n"})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	exporter, err := otlpmetrichttp.New(ctx,
		otlpmetrichttp.WithEndpointURL(s.url+"/api/v1/otlp/v1/metrics"), otlpmetrichttp.WithCompression(otlpmetrichttp.GzipCompression))
	if err != nil {
		t.Fatal(err)
	}
	res := resource.NewSchemaless(attribute.String("service.name", "trainer"), attribute.String("service.instance.id", "edge-1"),
		attribute.String("peer.group", "north"), attribute.String("host.arch", "arm64"))
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithResource(res), sdkmetric.WithReader(sdkmetric.NewPeriodicReader(exporter)))
	meter := provider.Meter("periplus")
	rounds, err := meter.Int64Counter("learning.rounds")
	if err != nil {
		t.Fatal(err)
	}
	loss, err := meter.Float64Gauge("learning.loss")
	if err != nil {
		t.Fatal(err)
	}
	took, err := meter.Float64Histogram("learning.training", metric.WithUnit("s"))
	if err != nil {
		t.Fatal(err)
	}
	rounds.Add(ctx, 3)
	loss.Record(ctx, 0.25, metric.WithAttributes(attribute.String("split", "test")))
	took.Record(ctx, 2)
	if err := provider.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	id := `job="trainer",instance="edge-1"`
	for expr, want := range map[string]float64{
		`learning_rounds_total{` + id + `,peer_group="north"}`:                3,
		`learning_loss{` + id + `,split="test"}`:                              0.25,
		`learning_training_seconds_count{` + id + `}`:                         1,
		`learning_training_seconds_bucket{` + id + `,le="5"}`:                 1,
		`target_info{` + id + `,host_arch="arm64"}`:                           1,
		`learning_loss * on(job, instance) group_left(host_arch) target_info`: 0.25,
	} {
		eventually(t, 10*time.Second, value(t, s.url, expr, want))
	}
}

// A sample too far in the future does not cost the sender the rest of its request.
func TestFutureSamplesAreRefusedAndTheRestStored(t *testing.T) {
	s := newSite(t, siteOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	now := time.Now()
	status, text := pushV1(ctx, t, s.url, map[string]time.Time{"present_sample": now, "future_sample": now.Add(20 * time.Minute), "another_sample": now})
	if status != 400 || !strings.Contains(text, "1 samples refused") || !strings.Contains(text, "future_sample") {
		t.Errorf("got %d %s", status, text)
	}
	eventually(t, 10*time.Second, value(t, s.url, "present_sample", 1))
	eventually(t, 10*time.Second, value(t, s.url, "another_sample", 1))
	if v, err := instant(t, s.url, "future_sample"); v != "" || err != nil {
		t.Errorf("got %q %v", v, err)
	}
}
