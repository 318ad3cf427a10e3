// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package receive

import (
	"maps"
	"strings"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
)

// described is what senders said about metrics: the newest word on each, in memory, bounded in number and in
// size. Senders repeat it (remote write 1.0 every minute, 2.0 with each series, OTLP with each point).
type described struct {
	max int

	mu   sync.RWMutex
	byID map[string]metadata.Metadata
}

// maxHelp bounds the text that one metric can keep in memory.
const maxHelp = 1024

func newDescribed(limit int) *described {
	return &described{max: limit, byID: map[string]metadata.Metadata{}}
}

// note remembers m unless it says nothing, cannot be shown, or there is no room for another name.
func (d *described) note(name string, m metadata.Metadata) {
	if name == "" || m.IsEmpty() || len(name) > maxHelp || len(m.Unit) > maxHelp {
		return
	}
	if m.Type == "" {
		m.Type = model.MetricTypeUnknown
	}
	if len(m.Help) > maxHelp {
		m.Help = m.Help[:maxHelp]
	}
	d.mu.RLock()
	known, found := d.byID[name]
	full := len(d.byID) >= d.max
	d.mu.RUnlock()
	if known == m || (full && !found) {
		return
	}
	clean := func(s string) string { return strings.Clone(strings.ToValidUTF8(s, "\uFFFD")) }
	d.mu.Lock()
	defer d.mu.Unlock()
	d.byID[clean(name)] = metadata.Metadata{Type: m.Type, Unit: clean(m.Unit), Help: clean(m.Help)}
}

// Metadata gives type, unit and help of pushed metrics as their senders described them. It holds no lock
// while it yields.
func (r *Receiver) Metadata(yield func(name string, m metadata.Metadata) bool) {
	r.described.mu.RLock()
	all := maps.Clone(r.described.byID)
	r.described.mu.RUnlock()
	for name, m := range all {
		if !yield(name, m) {
			return
		}
	}
}

// metadataV1 notes one MetricMetadata of a 1.0 request.
func (b *batch) metadataV1(message []byte) error {
	var m prompb.MetricMetadata
	if err := m.Unmarshal(message); err != nil {
		return malformed("metadata: %w", err)
	}
	kind := model.MetricType(strings.ToLower(m.Type.String()))
	b.r.described.note(m.MetricFamilyName, metadata.Metadata{Type: kind, Unit: m.Unit, Help: m.Help})
	return nil
}

// metadataV2 notes the metadata of a series of a 2.0 request, under the name of its family.
func (b *batch) metadataV2(series string, message []byte, table *symbols) error {
	var m writev2.Metadata
	if err := m.Unmarshal(message); err != nil {
		return malformed("metadata: %w", err)
	}
	help, err := table.at(uint64(m.HelpRef))
	if err != nil {
		return malformed("metadata: help: %w", err)
	}
	unit, err := table.at(uint64(m.UnitRef))
	if err != nil {
		return malformed("metadata: unit: %w", err)
	}
	kind := kindV2(m.Type)
	b.r.described.note(family(series, kind), metadata.Metadata{Type: kind, Unit: string(unit), Help: string(help)})
	return nil
}

func kindV2(t writev2.Metadata_MetricType) model.MetricType {
	name := strings.ToLower(strings.TrimPrefix(t.String(), "METRIC_TYPE_"))
	if name == "unspecified" {
		return model.MetricTypeUnknown
	}
	return model.MetricType(name)
}

// family is the name under which a series of a classic histogram or summary is described.
func family(series string, kind model.MetricType) string {
	var suffixes []string
	switch kind {
	case model.MetricTypeHistogram, model.MetricTypeGaugeHistogram:
		suffixes = []string{"_bucket", "_count", "_sum"}
	case model.MetricTypeSummary:
		suffixes = []string{"_count", "_sum"}
	}
	for _, suffix := range suffixes {
		if base, found := strings.CutSuffix(series, suffix); found {
			return base
		}
	}
	return series
}
