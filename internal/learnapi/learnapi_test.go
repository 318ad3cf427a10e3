// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learnapi_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	"sigs.k8s.io/yaml"

	"github.com/periplus-io/periplus/internal/learn"
	"github.com/periplus-io/periplus/internal/learnapi"
	"github.com/periplus-io/periplus/internal/learnapi/client"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/wire"
)

var update = flag.Bool("update", false, "write the recorded answers anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// nowhere takes samples and forgets them: these tests look at answers.
type nowhere struct{}

func (nowhere) Set(string, time.Time, []wire.Sample, []wire.Sample) {}
func (nowhere) Remove(string, time.Time)                            {}
func (nowhere) History(context.Context, []wire.Sample) error        { return nil }

// observed gives the objects of the corpus.
type observed struct{ objects []resource.Object }

func (o observed) Kinds() []resource.Kind {
	return []resource.Kind{kindOf("Dataset"), kindOf("LifelongLearningJob"), kindOf("Node")}
}

func (o observed) Get(k resource.Kind, namespace, name string) (resource.Object, bool) {
	for _, e := range o.objects {
		if e.Text("kind") == k.Kind && e.Namespace() == namespace && e.Name() == name {
			return e, true
		}
	}
	return nil, false
}

func (o observed) List(k resource.Kind, namespace string) (out []resource.Object) {
	for _, e := range o.objects {
		if e.Text("kind") == k.Kind && (namespace == "" || e.Namespace() == namespace) {
			out = append(out, e)
		}
	}
	return out
}

func kindOf(name string) resource.Kind {
	if name == "Pod" || name == "Node" {
		return resource.Kind{Version: "v1", Kind: name, Plural: strings.ToLower(name) + "s"}
	}
	return resource.Kind{Group: "sedna.io", Version: "v1alpha1", Kind: name, Plural: strings.ToLower(name) + "s"}
}

func corpus(t testing.TB) []resource.Object {
	t.Helper()
	var out []resource.Object
	for _, file := range []string{"corpus.yaml", "lifelong.yaml"} {
		text, err := os.ReadFile(filepath.Join("..", "learn", "testdata", file))
		if err != nil {
			t.Fatal(err)
		}
		for doc := range strings.SplitSeq(string(text), "\n---\n") {
			js, err := yaml.YAMLToJSON([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			var o map[string]any
			if err := json.Unmarshal(js, &o); err != nil {
				t.Fatal(err)
			}
			out = append(out, o)
		}
	}
	return out
}

// hub is a real model behind a real server.
type hub struct {
	model *learn.Learn
	api   *learnapi.API
	reg   *prometheus.Registry
	url   string
}

func noon() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

func start(t testing.TB, change func(*learnapi.Options)) *hub {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	h := &hub{reg: prometheus.NewRegistry()}
	var err error
	h.model, err = learn.Open(learn.Options{Dir: t.TempDir(), Config: learn.DefaultConfig(), Log: log, Registry: h.reg, Sink: nowhere{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.model.Run(ctx) })
	o := learnapi.Options{Log: log, Registry: h.reg, Model: h.model}
	if change != nil {
		change(&o)
	}
	h.api = learnapi.New(o)
	server := httptest.NewUnstartedServer(h.api)
	server.Config.BaseContext = func(net.Listener) context.Context { return ctx }
	server.Start()
	h.url = server.URL
	t.Cleanup(func() {
		cancel()
		server.Close()
		wg.Wait()
		_ = h.model.Close()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	return h
}

func (h *hub) apply(o resource.Object, at time.Time, initial bool) {
	h.model.Handle(context.Background(), resource.Event{Type: resource.Applied, Kind: kindOf(o.Text("kind")), Object: o, Received: at, Initial: initial})
}

func (h *hub) remove(o resource.Object, at time.Time) {
	h.model.Handle(context.Background(), resource.Event{Type: resource.Deleted, Kind: kindOf(o.Text("kind")), Object: o, Received: at})
}

// filled has the corpus and, of one name, a job that was deleted.
func filled(t testing.TB) *hub {
	all := corpus(t)
	h := start(t, func(o *learnapi.Options) { o.Resources = observed{all} })
	gone := resource.Object{
		"kind":     "LifelongLearningJob",
		"metadata": map[string]any{"name": "gone", "namespace": "lab", "uid": "gone-1", "creationTimestamp": "2026-11-20T10:00:00Z"},
		"status": map[string]any{"conditions": []any{
			map[string]any{"stage": "Train", "type": "Waiting", "status": "True", "lastTransitionTime": "2026-11-20T10:00:01Z"},
		}},
	}
	h.apply(gone, noon(), true)
	h.remove(gone, noon().Add(time.Minute))
	for _, o := range all {
		h.apply(o, noon(), true)
	}
	deadline := time.After(10 * time.Second)
	for h.model.Status().BackfillPending > 0 {
		select {
		case <-deadline:
			t.Fatal("back-fill does not end")
		case <-time.After(5 * time.Millisecond):
		}
	}
	return h
}

// TestRecordedAnswers replays every case; -update records the answers anew, not the requests.
func TestRecordedAnswers(t *testing.T) {
	h := filled(t)
	files, err := filepath.Glob(filepath.Join("testdata", "http", "*.txt"))
	if err != nil || len(files) == 0 {
		t.Fatal("no cases", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			line, want, _ := strings.Cut(string(text), "\n---\n")
			line = strings.TrimSpace(line)
			method, path, _ := strings.Cut(line, " ")
			w := httptest.NewRecorder()
			h.api.ServeHTTP(w, httptest.NewRequest(method, learnapi.Prefix+path, nil))
			got := fmt.Sprintf("%d\n%s", w.Code, indent(t, w.Body.Bytes()))
			if *update {
				if err := os.WriteFile(file, []byte(line+"\n---\n"+got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// indent lays an answer out and takes away what grows with time.
func indent(t *testing.T, body []byte) string {
	t.Helper()
	var out bytes.Buffer
	if err := json.Indent(&out, body, "", "  "); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	s := regexp.MustCompile(`("status": "active",\s+"start": "[^"]*",\s+"duration_seconds": )[0-9.e+]+`).ReplaceAllString(out.String(), "${1}0")
	return regexp.MustCompile(`"last_event": \d+`).ReplaceAllString(s, `"last_event": 0`)
}

// TestEveryLineIsRecorded compares docs/http.md with the cases and the tests.
func TestEveryLineIsRecorded(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "http.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Learning API\n")
	section, _, _ = strings.Cut(section, "\n## ")
	source, err := os.ReadFile("learnapi_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var documented, recorded []string
	for _, m := range regexp.MustCompile(`(?m)^\|.*\| ([^|]+) \|$`).FindAllStringSubmatch(section, -1) {
		if list, ok := strings.CutPrefix(m[1], "learning "); ok {
			documented = append(documented, strings.Split(list, ", ")...)
		} else if strings.HasPrefix(m[1], "Test") && !strings.Contains(string(source), "func "+m[1]+"(") {
			t.Errorf("docs/http.md names %s, which is no test", m[1])
		}
	}
	files, _ := filepath.Glob(filepath.Join("testdata", "http", "*.txt"))
	for _, f := range files {
		recorded = append(recorded, strings.TrimSuffix(filepath.Base(f), ".txt"))
	}
	slices.Sort(documented)
	slices.Sort(recorded)
	if diff := cmp.Diff(documented, recorded); diff != "" {
		t.Error(diff)
	}
}

// step adds the n-th condition to a job that lives now.
func (h *hub) step(n int) {
	var list []any
	begin := time.Now().Add(-20 * time.Second).Truncate(time.Second)
	for i := range n {
		typ := []string{"Waiting", "Ready", "Starting", "Running", "Completed"}[i%5]
		list = append(list, map[string]any{
			"stage": "Train", "type": typ, "status": "True", "message": fmt.Sprint(i), "lastTransitionTime": begin.Add(time.Duration(i) * time.Millisecond).Format(time.RFC3339),
		})
	}
	h.apply(resource.Object{
		"kind":     "LifelongLearningJob",
		"metadata": map[string]any{"name": "live", "namespace": "ns", "uid": "live", "creationTimestamp": begin.Format(time.RFC3339)},
		"status":   map[string]any{"conditions": list},
	}, time.Now(), false)
}

// lines opens the stream of changes.
func (h *hub) lines(t *testing.T, lastID string) (*bufio.Scanner, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url+learnapi.Prefix+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return bufio.NewScanner(res.Body), func() { cancel(); _ = res.Body.Close() }
}

func TestEventsResumeById(t *testing.T) {
	h := start(t, nil)
	h.step(3)
	var ids []string
	read := func(from string, n int) {
		s, stop := h.lines(t, from)
		defer stop()
		for n > 0 && s.Scan() {
			if id, ok := strings.CutPrefix(s.Text(), "id: "); ok {
				ids = append(ids, id)
				n--
			}
		}
	}
	read("0", 2)
	read(ids[1], 2)
	if want := []string{"1", "2", "3", "4"}; !slices.Equal(ids, want) {
		t.Errorf("got ids %v, want %v: one job_added and three transitions", ids, want)
	}
}

func TestEventsSayWhenSomeAreMissing(t *testing.T) {
	h := start(t, func(o *learnapi.Options) { o.Model = gapped{o.Model} })
	h.step(1)
	s, stop := h.lines(t, "0")
	defer stop()
	for s.Scan() {
		if s.Text() == "event: gap" {
			return
		}
	}
	t.Error("the stream says nothing of missing changes")
}

// gapped is a model that has dropped what came right after the asked id.
type gapped struct{ learnapi.Model }

func (g gapped) Events(ctx context.Context, after uint64, limit int) ([]learning.Event, bool, error) {
	list, _, err := g.Model.Events(ctx, after, limit)
	return list, true, err
}

func TestSilentStreamHasAHeartbeat(t *testing.T) {
	h := start(t, func(o *learnapi.Options) { o.Heartbeat = 20 * time.Millisecond })
	s, stop := h.lines(t, "")
	defer stop()
	beats := 0
	for beats < 3 && s.Scan() {
		if s.Text() == ": still here" {
			beats++
		}
	}
	if beats < 3 {
		t.Errorf("%d heartbeats", beats)
	}
}

func TestSlowReaderIsLetGo(t *testing.T) {
	h := start(t, func(o *learnapi.Options) { o.WriteTimeout = 50 * time.Millisecond; o.Model = chatty{o.Model} })
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", strings.TrimPrefix(h.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprintf(conn, "GET %s/events?after=0 HTTP/1.1\r\nHost: hub\r\n\r\n", learnapi.Prefix); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second) // the reader never reads
	for count(t, h.reg, "periplus_learnapi_streams_dropped_total") == 0 {
		if time.Now().After(deadline) {
			t.Fatal("the slow reader is still served")
		}
		<-time.After(10 * time.Millisecond)
	}
}

// chatty has a change at any time.
type chatty struct{ learnapi.Model }

func (chatty) Events(ctx context.Context, after uint64, limit int) ([]learning.Event, bool, error) {
	list := make([]learning.Event, limit)
	for i := range list {
		list[i] = learning.Event{ID: after + uint64(i) + 1, Message: strings.Repeat("x", 1000)}
	}
	return list, false, ctx.Err()
}

func count(t *testing.T, reg *prometheus.Registry, name string) int {
	t.Helper()
	n, err := testutil.GatherAndCount(reg, name)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestClientAsksAndWatches(t *testing.T) {
	h := filled(t)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := &client.Client{Base: h.url + "/", HTTP: &http.Client{Transport: transport}}
	page, err := c.Jobs(t.Context(), learning.JobQuery{Kinds: []string{"FederatedLearningJob"}, Deleted: true, Sort: "-round", Limit: 5})
	if err != nil || page.Total != 1 || page.Jobs[0].Round != 3 {
		t.Errorf("page %+v, %v", page, err)
	}
	d, err := c.Job(t.Context(), "factory", "", "atcii-classifier", "")
	if err != nil || len(d.Rounds) != 2 || len(d.Workers) != 2 || d.Job.Workers.Total != 2 {
		t.Errorf("detail %+v, %v", d, err)
	}
	if _, err := c.Job(t.Context(), "factory", "", "nobody", ""); !isNotFound(err) {
		t.Errorf("got %v, want not found", err)
	}
	if s, err := c.Status(t.Context()); err != nil || s.Kubernetes.State != "not configured" || s.Jobs != 4 {
		t.Errorf("status %+v, %v", s, err)
	}
	var seen []learning.EventType
	ctx, cancel := context.WithCancel(t.Context())
	err = c.Watch(ctx, 0, func(e learning.Event) error {
		if e.ID == 0 {
			h.step(2)
			return nil
		}
		if seen = append(seen, e.Type); len(seen) == 3 {
			return io.EOF
		}
		return nil
	})
	cancel()
	want := []learning.EventType{learning.JobAdded, learning.JobTransition, learning.JobTransition}
	if diff := cmp.Diff(want, seen); diff != "" || err != io.EOF { //nolint:errorlint // the very error comes back
		t.Error(diff, err)
	}
}

func isNotFound(err error) bool {
	e, ok := err.(*client.Error) //nolint:errorlint // as it comes
	return ok && e.Is(learning.ErrNotFound)
}
