// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package ops_test

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/periplus-io/periplus/internal/ops"
)

func TestLoggerRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, c := range []struct{ level, format string }{{"loud", "text"}, {"info", "xml"}} {
		if _, err := ops.NewLogger(&bytes.Buffer{}, c.level, c.format); err == nil {
			t.Errorf("level %q, format %q: no error", c.level, c.format)
		}
	}
	var b bytes.Buffer
	log, err := ops.NewLogger(&b, "warn", "json")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("quiet")
	log.Warn("heard")
	if got := b.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"msg":"heard"`) {
		t.Errorf("got %s", got)
	}
}

func TestReadyOnlyWhenNothingIsMissing(t *testing.T) {
	var h ops.Health
	cause := errors.New("still listing")
	h.Require("watch", func() error { return cause })
	mux := http.NewServeMux()
	h.Register(mux)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	if code, body := get("/-/ready"); code != http.StatusServiceUnavailable || !strings.Contains(body, "watch: still listing") {
		t.Errorf("got %d %s", code, body)
	}
	if code, _ := get("/-/healthy"); code != http.StatusOK {
		t.Errorf("got %d, want 200", code)
	}
	cause = nil
	if code, body := get("/-/ready"); code != http.StatusOK {
		t.Errorf("got %d %s", code, body)
	}
}

func TestRegistryTellsTheBuild(t *testing.T) {
	families, err := ops.NewRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range families {
		names[f.GetName()] = true
	}
	for _, want := range []string{"periplus_build_info", "go_goroutines", "process_resident_memory_bytes"} {
		if !names[want] {
			t.Errorf("%s is missing", want)
		}
	}
}

func TestALibraryIsQuiet(t *testing.T) {
	var b bytes.Buffer
	log, err := ops.NewLogger(&b, "info", "text")
	if err != nil {
		t.Fatal(err)
	}
	quiet := ops.Quiet(log, "as usual").With("part", "x")
	quiet.Info("in the ordinary course")
	quiet.Warn("as usual")
	quiet.Warn("unusual")
	quiet.Error("broken")
	if got := strings.Count(b.String(), "\n"); got != 2 || !strings.Contains(b.String(), "unusual") || !strings.Contains(b.String(), "broken") {
		t.Errorf("got\n%s", &b)
	}
	b.Reset()
	if log, err = ops.NewLogger(&b, "debug", "text"); err != nil {
		t.Fatal(err)
	}
	ops.Quiet(log).Info("in the ordinary course")
	if got := b.String(); !strings.Contains(got, "level=DEBUG") {
		t.Errorf("got %s", got)
	}
}
