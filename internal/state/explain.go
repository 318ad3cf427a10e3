// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state/spec"
)

// Explain writes what one object would give under specs: its series as text, then a comment for each
// metric that gave nothing, or less than it might, and why. It is for people who write such files.
func Explain(w io.Writer, specs []*spec.Spec, c Config, object resource.Object) error {
	e, err := New(Options{
		Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Specs: specs, Config: c,
	})
	if err != nil {
		return err
	}
	kind := KindOf(object)
	t := e.table(kind)
	if t == nil {
		return fmt.Errorf("no specification speaks about %s", kind)
	}
	t.apply(resource.Event{Type: resource.Applied, Kind: kind, Object: object, Received: time.Now()})
	if err := e.Text(w); err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	text := newRendered(t.work.ends, t.work.points, t.work.text)
	for i, f := range t.plan.families {
		for _, why := range t.explain(object, f, int(text.count(i))) {
			_, _ = fmt.Fprintf(out, "# note: %s: %s\n", f.Name, strings.ReplaceAll(why, "\n", " "))
		}
	}
	return out.Flush()
}

// explain says what is notable about a family after the object was evaluated.
func (t *table) explain(object resource.Object, f *family, series int) []string {
	var notes []string
	for _, fault := range t.work.faults {
		if fault.metric == f.Metric {
			notes = append(notes, fault.err.Error())
		}
	}
	switch {
	case f.Type == spec.Count || series > 0 || len(notes) > 0:
	case !f.resource.Selects(object):
		notes = append(notes, "the selector of the resource does not match")
	default:
		notes = append(notes, f.Missing(object))
	}
	return notes
}

// KindOf gives the kind that an object says it is, without its plural.
func KindOf(object resource.Object) resource.Kind {
	k := resource.Kind{Kind: object.Text("kind")}
	version := object.Text("apiVersion")
	if group, rest, ok := strings.Cut(version, "/"); ok {
		k.Group, version = group, rest
	}
	k.Version = version
	return k
}
