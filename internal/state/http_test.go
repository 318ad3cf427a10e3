// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/periplus-io/periplus/internal/state"
	"github.com/periplus-io/periplus/internal/state/spec"
)

func served(t *testing.T) *state.Engine {
	t.Helper()
	e := newEngine(t, prometheus.NewRegistry(), parse(t, wrap(`
- name: some_info
  help: "Two\nlines and a \\ and \"quotes\"."
  labelsFromPath: {name: [metadata, name]}
  each: {type: Info, info: {path: [status], labelsFromPath: {message: [message]}}}
- {name: no_suffix, each: {type: Info, info: {labelsFromPath: {name: [metadata, name]}}}}
- {name: phase, labelsFromPath: {name: [metadata, name]}, each: {type: StateSet, stateSet: {labelName: foo_phase, path: [status, phase], list: [A, B]}}}
- {name: kind, labelsFromPath: {name: [metadata, name]}, each: {type: StateSet, stateSet: {labelName: state, path: [status, phase], list: [A, B]}}}
- {name: n, labelsFromPath: {name: [metadata, name]}, each: {type: Gauge, gauge: {path: [status, n]}}}
- {name: all, each: {type: Count}}`), spec.Choices{}), nil)
	for _, name := range []string{"a", "b"} {
		e.Handle(t.Context(), applied(foo(name, map[string]any{
			"message": "say \"x\"\nä\\", "phase": "B", "n": "1.5Gi",
		}), time.Now()))
	}
	return e
}

func get(t *testing.T, e *state.Engine, method string, header ...string) *http.Response {
	t.Helper()
	req := httptest.NewRequestWithContext(t.Context(), method, "/metrics/state", nil)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	e.Handler().ServeHTTP(w, req)
	return w.Result()
}

func body(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// series parses with Prometheus' own parser for the content type.
func series(t *testing.T, text, contentType string) (series []string, types map[string]string) {
	t.Helper()
	p, err := textparse.New([]byte(text), contentType, labels.NewSymbolTable(), textparse.ParserOptions{})
	if err != nil {
		t.Fatal(err)
	}
	types = map[string]string{}
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return series, types
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		switch entry {
		case textparse.EntrySeries:
			var l labels.Labels
			p.Labels(&l)
			series = append(series, l.String())
		case textparse.EntryType:
			name, typ := p.Type()
			types[string(name)] = string(typ)
		}
	}
}

func TestBothFormatsParse(t *testing.T) {
	t.Parallel()
	e := served(t)
	for _, tt := range []struct {
		accept, contentType string
		types               map[string]string
	}{
		{
			"*/*", "text/plain; version=0.0.4; charset=utf-8",
			map[string]string{
				"foo_some_info": "gauge", "foo_no_suffix": "gauge", "foo_phase": "gauge",
				"foo_kind": "gauge", "foo_n": "gauge", "foo_all": "gauge",
			},
		},
		{
			"application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.1",
			"application/openmetrics-text; version=1.0.0; charset=utf-8",
			map[string]string{
				"foo_some": "info", "foo_no_suffix": "gauge", "foo_phase": "stateset",
				"foo_kind": "gauge", "foo_n": "gauge", "foo_all": "gauge",
			},
		},
	} {
		resp := get(t, e, http.MethodGet, "Accept", tt.accept)
		text := body(t, resp.Body)
		if got := resp.Header.Get("Content-Type"); got != tt.contentType {
			t.Errorf("content type %s", got)
		}
		if got := resp.Header.Get("Content-Length"); got != strconv.Itoa(len(text)) {
			t.Errorf("content length %s of %d", got, len(text))
		}
		got, types := series(t, text, tt.contentType)
		if len(got) != 2+2+4+4+2+1 {
			t.Errorf("%d series: %v", len(got), got)
		}
		for name, want := range tt.types {
			if types[name] != want {
				t.Errorf("%s is %q, want %s", name, types[name], want)
			}
		}
		if strings.HasSuffix(text, "# EOF\n") != strings.Contains(tt.contentType, "openmetrics") {
			t.Errorf("wrong end of\n%s", text)
		}
	}
}

func TestCompressionAndHead(t *testing.T) {
	t.Parallel()
	e := served(t)
	plain := body(t, get(t, e, http.MethodGet).Body)
	for accept, want := range map[string]string{
		"gzip": "gzip", "gzip, zstd": "zstd", "zstd;q=0.1, gzip;q=0.5": "gzip", "gzip;q=0": "", "br": "", "gzip;q=x": "",
	} {
		resp := get(t, e, http.MethodGet, "Accept-Encoding", accept)
		if got := resp.Header.Get("Content-Encoding"); got != want {
			t.Errorf("%s: coded as %q", accept, got)
			continue
		}
		var r io.Reader = resp.Body
		var err error
		switch want {
		case "gzip":
			r, err = gzip.NewReader(resp.Body)
		case "zstd":
			r, err = zstd.NewReader(resp.Body)
		}
		if err != nil {
			t.Fatal(err)
		}
		if body(t, r) != plain {
			t.Errorf("%s: another text", accept)
		}
	}
	head := get(t, e, http.MethodHead)
	if head.Header.Get("Content-Length") != strconv.Itoa(len(plain)) || body(t, head.Body) != "" {
		t.Errorf("HEAD gave %v", head.Header)
	}
	if resp := get(t, e, http.MethodPost); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST gave %d", resp.StatusCode)
	}
}
