// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/periplus-io/periplus/internal/watch"
)

// server plays the answers of an API server that a real one gives only in rare moments. What a real
// one does every day is tested on a real one, in test/kube.
type server struct {
	t *testing.T

	mu       sync.Mutex
	script   []step
	requests []string
}

// step is one request that is expected and its answer.
type step struct {
	query  string // what must be in the query
	status int    // 0 is 200
	body   string
	hold   bool // leave the answer open
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/apis/sedna.io":
		fmt.Fprint(w, `{"preferredVersion":{"version":"v1alpha1"},"versions":[{"version":"v1alpha1"}]}`)
	case "/apis/sedna.io/v1alpha1":
		fmt.Fprint(w, `{"resources":[{"name":"models","kind":"Model","namespaced":true,"verbs":["list","watch"]},{"name":"models/status","kind":"Model","verbs":["get"]}]}`)
	case "/apis/sedna.io/v1alpha1/models":
		s.models(w, r)
	default:
		http.Error(w, "forbidden", http.StatusForbidden)
	}
}

func (s *server) models(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	st := step{hold: true}
	if len(s.script) > 0 {
		st, s.script = s.script[0], s.script[1:]
	}
	s.requests = append(s.requests, r.URL.RawQuery)
	s.mu.Unlock()
	want, err := url.ParseQuery(st.query)
	if err != nil {
		s.t.Error(err)
	}
	for name := range want {
		if got := r.URL.Query().Get(name); got != want.Get(name) {
			s.t.Errorf("request %s: %s is %q, want %q", r.URL.RawQuery, name, got, want.Get(name))
		}
	}
	if st.status != 0 {
		w.WriteHeader(st.status)
	}
	fmt.Fprint(w, st.body)
	w.(http.Flusher).Flush()
	if st.hold {
		<-r.Context().Done()
	}
}

// play runs a watcher against a script.
func play(t *testing.T, script ...step) *room {
	t.Helper()
	s := &server{t: t, script: script}
	ts := httptest.NewServer(s)
	t.Cleanup(ts.Close)
	path := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, os.WriteFile(path, []byte(fmt.Sprintf(
		`{current-context: c, clusters: [{name: c, cluster: {server: %q}}], contexts: [{name: c, context: {cluster: c}}]}`, ts.URL)), 0o600))
	r := open(t, nil)
	c := watch.DefaultConfig()
	c.Kubeconfig, c.MaxObjectSize = path, 64<<10
	must(t, r.Apply(c, models()))
	return r
}

func object(name string, value, version int) string {
	return fmt.Sprintf(`{"apiVersion":"sedna.io/v1alpha1","kind":"Model","metadata":{"name":%q,"namespace":"ns","uid":"u-%s","resourceVersion":"%d"},"spec":{"value":%d}}`, name, name, version, value)
}

func event(typ, object string) string {
	return fmt.Sprintf(`{"type":%q,"object":%s}`+"\n", typ, object)
}

func bookmark(version int, end bool) string {
	annotations := ""
	if end {
		annotations = `,"annotations":{"k8s.io/initial-events-end":"true"}`
	}
	return event("BOOKMARK", fmt.Sprintf(`{"kind":"Model","metadata":{"resourceVersion":"%d"%s}}`, version, annotations))
}

const (
	invalid = `{"kind":"Status","code":422,"reason":"Invalid","message":"sendInitialEvents: Forbidden"}`
	expired = `{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}`
)

func TestServerWithoutStreamingListsIsReadInPages(t *testing.T) {
	page := func(items, rest string) string {
		return fmt.Sprintf(`{"kind":"ModelList","items":[%s],"metadata":{"resourceVersion":"5"%s}}`, items, rest)
	}
	r := play(t,
		step{query: "sendInitialEvents=true&resourceVersionMatch=NotOlderThan", status: 422, body: invalid},
		step{query: "limit=500&continue=", body: page(object("a", 1, 1), `,"continue":"next"`)},
		step{query: "limit=500&continue=next", status: 410, body: expired},
		step{query: "limit=&continue=", body: page(object("a", 1, 1)+","+object("b", 1, 2), "")},
		step{query: "watch=1&resourceVersion=5&sendInitialEvents=", body: event("MODIFIED", object("a", 2, 6)), hold: true},
	)
	r.next(t, "applied a 1", "applied b 1", "listed models", "applied a 2")
}

func TestExpiredVersionIsComparedWithWhatIsKnown(t *testing.T) {
	first := event("ADDED", object("a", 1, 1)) + event("ADDED", object("b", 1, 2)) + event("ADDED", object("c", 1, 3)) + bookmark(3, true) + bookmark(9, false)
	again := event("ADDED", object("a", 1, 1)) + event("ADDED", object("b", 2, 20)) +
		event("ADDED", strings.Replace(object("c", 1, 21), "u-c", "u-other", 1)) + bookmark(30, true)
	r := play(t,
		step{query: "sendInitialEvents=true", body: first},
		step{query: "resourceVersion=9&sendInitialEvents=", status: 410, body: expired},
		step{query: "sendInitialEvents=true&resourceVersion=", body: again + event("ERROR", expired)},
		step{query: "sendInitialEvents=true&resourceVersion=", body: event("ADDED", object("b", 2, 20)) + bookmark(40, true), hold: true},
	)
	r.next(t, "applied a 1", "applied b 1", "applied c 1", "listed models",
		"applied b 2", "deleted c", "applied c 1",
		"deleted a", "deleted c")
}

func TestInterruptedListStartsAgainAndReportsNothingTwice(t *testing.T) {
	r := play(t,
		step{query: "sendInitialEvents=true", body: event("ADDED", object("a", 1, 1))},
		step{query: "sendInitialEvents=true", body: event("ADDED", object("a", 1, 1)) + `{"type":"ADDED","obj`},
		step{query: "sendInitialEvents=true", body: event("ADDED", object("a", 1, 1)) + event("ADDED", object("b", 1, 2)) + bookmark(2, true), hold: true},
	)
	r.next(t, "applied a 1", "applied b 1", "listed models")
}

func TestObjectsThatCannotBeTakenInAreLeftOutAlone(t *testing.T) {
	big := strings.Replace(object("big", 1, 3), `"spec":{`, `"spec":{"x":"`+strings.Repeat("x", 1<<20)+`",`, 1)
	grown := strings.Replace(object("a", 1, 6), `"spec":{`, `"spec":{"x":"`+strings.Repeat("x", 1<<20)+`",`, 1)
	r := play(t,
		step{body: event("ADDED", object("a", 1, 1)) + event("ADDED", big) + event("ADDED", `{"metadata":{"name":7}}`) +
			event("ADDED", `[]`) + event("ADDED", object("b", 1, 4)) + bookmark(5, true) + event("MODIFIED", grown)},
		step{query: "resourceVersion=6", body: event("MODIFIED", object("b", 2, 7)), hold: true},
	)
	r.next(t, "applied a 1", "applied b 1", "listed models", "applied b 2")
	for _, k := range r.Status().Kinds {
		if k.State != watch.StateWatching || k.Objects != 2 || !strings.Contains(k.LastErr, "ns/a") {
			t.Errorf("got status %+v", k)
		}
	}
}
