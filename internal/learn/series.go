// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	pmodel "github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/wire"
)

// maxLabel bounds a label value in bytes.
const maxLabel = 1 << 10

// stale is the value that ends a series: the NaN that Prometheus defines for it.
func stale() float64 { return math.Float64frombits(0x7ff0000000000002) }

// series collects the values of one owner over time. common are the labels of all of them.
type series struct {
	common []string
	limit  int
	b      labels.ScratchBuilder
	byHash map[uint64]int
	tracks []track
	order  []int // tracks with a current value, in the order in which they were given
	counts map[string]int
	lost   map[string]int
}

// track is one series with its values in time order.
type track struct {
	name   string
	labels labels.Labels
	points []point
	// set says that the current values include it.
	set bool
	// gone says that the last value ended it.
	gone bool
}

type point struct {
	t int64
	v float64
}

func newSeries(limit int, lost map[string]int, common ...string) *series {
	return &series{common: common, limit: limit, b: labels.NewScratchBuilder(8), byHash: make(map[uint64]int, 96), tracks: make([]track, 0, 96), counts: map[string]int{}, lost: lost}
}

// find gives the track of a series, or nil where the limit refuses a new one.
func (s *series) find(name string, kv []string) *track {
	s.b.Reset()
	s.b.Add(pmodel.MetricNameLabel, name)
	for i := 0; i+1 < len(s.common); i += 2 {
		s.add(s.common[i], s.common[i+1])
	}
	for i := 0; i+1 < len(kv); i += 2 {
		s.add(kv[i], kv[i+1])
	}
	s.b.Sort()
	ls := s.b.Labels()
	h := ls.Hash()
	if i, ok := s.byHash[h]; ok {
		return &s.tracks[i]
	}
	if s.counts[name] >= s.limit {
		s.lost["series_limit"]++
		return nil
	}
	s.counts[name]++
	s.byHash[h] = len(s.tracks)
	s.tracks = append(s.tracks, track{name: name, labels: ls})
	return &s.tracks[len(s.tracks)-1]
}

func (s *series) add(key, value string) {
	if value == "" {
		return
	}
	if len(value) > maxLabel {
		value = value[:maxLabel]
	}
	if !utf8.ValidString(value) {
		value = strings.ToValidUTF8(value, "\uFFFD")
	}
	s.b.Add(key, value)
}

// step records a value from a time on; it is a history.Record.
func (s *series) step(t int64, gone bool, name string, value float64, kv ...string) {
	tr := s.find(name, kv)
	if tr == nil {
		return
	}
	if gone {
		value = stale()
	}
	tr.gone = gone
	if n := len(tr.points); n > 0 && tr.points[n-1].t >= t {
		tr.points[n-1].v = value
		return
	}
	tr.points = append(tr.points, point{t, value})
}

// now records a current value that holds at t unless a step says since when; it is a history.Record too.
func (s *series) now(t int64, _ bool, name string, value float64, kv ...string) {
	tr := s.find(name, kv)
	if tr == nil {
		return
	}
	if !tr.set {
		tr.set = true
		s.order = append(s.order, s.byHash[tr.labels.Hash()])
	}
	if n := len(tr.points); n > 0 && !tr.gone && same(tr.points[n-1].v, value) {
		return
	}
	if n := len(tr.points); n > 0 && tr.points[n-1].t >= t {
		t = tr.points[n-1].t + 1
	}
	tr.points = append(tr.points, point{t, value})
}

func same(a, b float64) bool { return math.Float64bits(a) == math.Float64bits(b) }

// samples splits what was recorded into the current values, always in the order of the calls of now, and those
// before them, in time order. A series that began and ended before now has only the latter.
func (s *series) samples() (earlier, current []wire.Sample) {
	current = make([]wire.Sample, 0, len(s.order))
	for i := range s.tracks {
		tr := &s.tracks[i]
		past := tr.points
		if tr.set {
			past = past[:len(past)-1]
		}
		for _, p := range past {
			earlier = append(earlier, wire.Sample{Labels: tr.labels, Time: p.t, Value: p.v})
		}
	}
	for _, i := range s.order {
		tr := &s.tracks[i]
		last := tr.points[len(tr.points)-1]
		current = append(current, wire.Sample{Labels: tr.labels, Time: last.t, Value: last.v})
	}
	slices.SortStableFunc(earlier, func(a, b wire.Sample) int { return cmp.Compare(a.Time, b.Time) })
	return earlier, current
}
