// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/periplus-io/periplus/internal/state/spec"
)

// Content types of the two formats.
const (
	textType        = "text/plain; version=0.0.4; charset=utf-8"
	openMetricsType = "application/openmetrics-text; version=1.0.0; charset=utf-8"
)

// chunk is how much is handed to the connection at a time. It is larger than the buffers of
// net/http, which then pass it on without copying.
const chunk = 256 << 10

// Handler serves the current series of everything in the text format, or as OpenMetrics to who
// prefers that.
func (e *Engine) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
			return
		}
		e.metrics.scrapes.Inc()
		open := accepts(r.Header.Values("Accept"), "application/openmetrics-text") >
			accepts(r.Header.Values("Accept"), "text/plain")
		h := w.Header()
		h.Set("Content-Type", textType)
		if open {
			h.Set("Content-Type", openMetricsType)
		}
		h.Add("Vary", "Accept, Accept-Encoding")
		page := e.page(open)
		coding := coding(r.Header.Values("Accept-Encoding"))
		if coding == "" {
			h.Set("Content-Length", strconv.Itoa(page.size()))
		} else {
			h.Set("Content-Encoding", coding)
		}
		if r.Method == http.MethodHead {
			return
		}
		if err := encode(w, coding, page); err != nil {
			// The client is gone: there is nobody to tell.
			e.metrics.scrapeLost.Inc()
		}
	})
}

func encode(w io.Writer, coding string, p page) error {
	switch coding {
	case "gzip":
		z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
		if err != nil {
			return err
		}
		if err := p.writeTo(z); err != nil {
			return err
		}
		return z.Close()
	case "zstd":
		z, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return err
		}
		if err := p.writeTo(z); err != nil {
			_ = z.Close()
			return err
		}
		return z.Close()
	}
	return p.writeTo(w)
}

// accepts gives the weight of a media type or coding in the values of an Accept header: what is
// named there, not what a wildcard covers.
func accepts(values []string, want string) float64 {
	best := 0.0
	for part := range strings.SplitSeq(strings.Join(values, ","), ",") {
		name, params, _ := strings.Cut(part, ";")
		if !strings.EqualFold(strings.TrimSpace(name), want) {
			continue
		}
		q := 1.0
		for param := range strings.SplitSeq(params, ";") {
			if v, ok := strings.CutPrefix(strings.TrimSpace(param), "q="); ok {
				f, err := strconv.ParseFloat(v, 64)
				if err != nil {
					f = 0
				}
				q = f
			}
		}
		best = max(best, q)
	}
	return best
}

func coding(values []string) string {
	z, g := accepts(values, "zstd"), accepts(values, "gzip")
	switch {
	case z > 0 && z >= g:
		return "zstd"
	case g > 0:
		return "gzip"
	}
	return ""
}

// page is a consistent view of the text: what each object gave when it was asked for.
type page struct {
	sections []*section
	open     bool
}

// section is a metric name: its head and where its lines are.
type section struct {
	head  string
	parts []part
}

// part is a family of one kind.
type part struct {
	texts            []rendered
	family, families int
	counts           string
}

func (e *Engine) page(open bool) page {
	p := page{open: open}
	byName := map[string]*section{}
	for _, t := range e.all() {
		texts := t.texts()
		for i, f := range t.plan.families {
			s, ok := byName[f.Name]
			if !ok {
				s = &section{head: head(f, open)}
				byName[f.Name] = s
				p.sections = append(p.sections, s)
			}
			if f.Type == spec.Count {
				s.parts = append(s.parts, part{counts: f.lines()})
				continue
			}
			s.parts = append(s.parts, part{texts: texts, family: i, families: len(t.plan.families)})
		}
	}
	return p
}

// head gives the HELP and TYPE lines. The text format has neither info nor state set; OpenMetrics
// has them with rules of their own that a name or label may not fulfil, and then it is a gauge.
func head(f *family, open bool) string {
	name, kind := f.Name, "gauge"
	help := strings.NewReplacer("\\", "\\\\", "\n", "\\n")
	if open {
		help = strings.NewReplacer("\\", "\\\\", "\n", "\\n", "\"", "\\\"")
		base, isInfo := strings.CutSuffix(f.Name, "_info")
		switch {
		case f.Type == spec.Info && isInfo:
			name, kind = base, "info"
		case f.Type == spec.StateSet && f.LabelName == f.Name:
			kind = "stateset"
		}
	}
	return fmt.Sprintf("# HELP %s %s\n# TYPE %s %s\n", name, help.Replace(f.Help), name, kind)
}

const openEnd = "# EOF\n"

// visit calls write with every piece of the page in order.
func (p page) visit(write func(string)) {
	for _, s := range p.sections {
		write(s.head)
		for _, pt := range s.parts {
			write(pt.counts)
			for _, t := range pt.texts {
				write(t.lines(pt.family, pt.families))
			}
		}
	}
	if p.open {
		write(openEnd)
	}
}

// size is the length of the page without walking all of its lines.
func (p page) size() int {
	n := 0
	seen := map[*rendered]bool{}
	for _, s := range p.sections {
		n += len(s.head)
		for _, pt := range s.parts {
			n += len(pt.counts)
			if len(pt.texts) == 0 || seen[&pt.texts[0]] {
				continue
			}
			seen[&pt.texts[0]] = true
			for _, t := range pt.texts {
				n += len(t) - 8*pt.families
			}
		}
	}
	if p.open {
		n += len(openEnd)
	}
	return n
}

func (p page) writeTo(w io.Writer) error {
	buf := make([]byte, 0, chunk)
	var failed error
	p.visit(func(s string) {
		for len(s) > 0 && failed == nil {
			n := min(len(s), cap(buf)-len(buf))
			buf = append(buf, s[:n]...)
			if s = s[n:]; len(buf) == cap(buf) {
				_, failed = w.Write(buf)
				buf = buf[:0]
			}
		}
	})
	if failed == nil && len(buf) > 0 {
		_, failed = w.Write(buf)
	}
	return failed
}

// Text writes the current series in the text format.
func (e *Engine) Text(w io.Writer) error { return e.page(false).writeTo(w) }
