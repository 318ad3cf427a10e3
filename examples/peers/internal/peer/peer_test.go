// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/periplus-io/periplus/examples/peers/internal/deal"
	"github.com/periplus-io/periplus/examples/peers/internal/gossip"
	"github.com/periplus-io/periplus/examples/peers/internal/idx"
	"github.com/periplus-io/periplus/examples/peers/internal/mlp"
	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

// newGroup makes the folder of a group of two on generated images that runs fast.
func newGroup(t *testing.T) roster.Dir {
	t.Helper()
	data := t.TempDir()
	if err := deal.Generate(data, 1, 2000, 500); err != nil {
		t.Fatal(err)
	}
	path, err := deal.Find(data, deal.TrainLabels)
	if err != nil {
		t.Fatal(err)
	}
	labels, err := idx.ReadBytes(path)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := deal.Dirichlet(labels, 2, 0.5, 1)
	if err != nil {
		t.Fatal(err)
	}
	shape := ModelShape()
	initial, err := gossip.Encode(gossip.Model{Peer: "initial", Group: "test", Shape: shape[:], Weights: mlp.New(shape, 1).Weights()})
	if err != nil {
		t.Fatal(err)
	}
	dir := roster.Dir(t.TempDir())
	g := roster.Group{
		Group: "test", Dataset: "generated", Data: data, Parts: 2, Seed: 1,
		Rate: 0.01, Decay: 400, Epoch: 64, Interval: 0.02, Duty: 1, Fanout: 2,
	}
	if err := dir.Create(g, initial, deal.EncodeParts(parts)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func newPeer(t *testing.T, dir roster.Dir, name string) *Peer {
	t.Helper()
	p, err := New(Options{
		Dir: dir, Name: name, Node: "edge-1", Location: "edge", Listen: "127.0.0.1:0", Part: -1,
		Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// list names everybody in peers.json, each a neighbour of each.
func list(t *testing.T, dir roster.Dir, addresses map[string]string) {
	t.Helper()
	var entries []roster.Entry
	for name, address := range addresses {
		e := roster.Entry{Peer: name, Address: address, Neighbours: []string{}}
		for other := range addresses {
			if other != name {
				e.Neighbours = append(e.Neighbours, other)
			}
		}
		entries = append(entries, e)
	}
	if err := dir.WritePeers(entries); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, p *Peer) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", p.self.Peer, err)
		}
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	deadline := time.After(30 * time.Second)
	for !is() {
		select {
		case <-ticks.C:
		case <-deadline:
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func accuracy(p *Peer) float64 { return testutil.ToFloat64(p.m.accuracy.WithLabelValues("test")) }

func TestTwoPeersLearnFromOneAnotherAndLeave(t *testing.T) {
	dir := newGroup(t)
	a := newPeer(t, dir, "a")
	defer run(t, a)()
	eventually(t, "a joins", func() bool { return dir.Joined("a") })
	b := newPeer(t, dir, "b") // after a, so that it gets the other part
	stop := run(t, b)
	list(t, dir, map[string]string{"a": a.Addr(), "b": b.Addr()})
	if a.self.Part == b.self.Part {
		t.Error("both have the same part of the data")
	}
	eventually(t, "accuracies above 0.7", func() bool { return accuracy(a) > 0.7 && accuracy(b) > 0.7 })
	if testutil.ToFloat64(a.m.received) == 0 || testutil.ToFloat64(b.m.published) == 0 {
		t.Error("they did it without each other")
	}
	stop()
	if dir.Joined("b") {
		t.Error("b left its member file behind")
	}
	round := testutil.ToFloat64(a.m.round)
	eventually(t, "a goes on alone", func() bool { return testutil.ToFloat64(a.m.round) > round+5 })
}

// TestMaliciousNeighbourHarmsNobody lets a listed neighbour answer every exchange with NaN, and push
// garbage besides.
func TestMaliciousNeighbourHarmsNobody(t *testing.T) {
	dir := newGroup(t)
	shape := ModelShape()
	poison := slices.Repeat([]float32{float32(math.NaN())}, shape.Size())
	frame, err := gossip.Encode(gossip.Model{Peer: "evil", Group: "test", Round: 1 << 30, Samples: 1 << 30, Shape: shape[:], Weights: poison})
	if err != nil {
		t.Fatal(err)
	}
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(frame) }))
	defer evil.Close()
	p := newPeer(t, dir, "a")
	list(t, dir, map[string]string{"a": p.Addr(), "evil": strings.TrimPrefix(evil.URL, "http://")})
	defer run(t, p)()
	eventually(t, "refusals are counted", func() bool {
		return testutil.ToFloat64(p.m.refused.WithLabelValues(gossip.ReasonValues)) > 3
	})
	for range 3 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.Addr()+gossip.Path, strings.NewReader("garbage"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := evil.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("garbage: got %s", resp.Status)
		}
	}
	if got := testutil.ToFloat64(p.m.refused.WithLabelValues(gossip.ReasonMalformed)); got != 3 {
		t.Errorf("counted %v malformed models, want 3", got)
	}
	eventually(t, "it learns all the same", func() bool { return accuracy(p) > 0.4 })
	if p.m.received != nil && testutil.ToFloat64(p.m.received) != 0 {
		t.Error("a poisoned model was taken")
	}
}

func TestExpositionIsLintClean(t *testing.T) {
	p := newPeer(t, newGroup(t), "a")
	defer func() { _ = p.listener.Close() }()
	p.trainOnce()
	p.evaluate()
	problems, err := testutil.GatherAndLint(p.registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

// TestSeriesAreThoseOfTheContract compares names and labels with the list in docs/metrics.md, section peers.
func TestSeriesAreThoseOfTheContract(t *testing.T) {
	p := newPeer(t, newGroup(t), "a")
	defer func() { _ = p.listener.Close() }()
	p.trainOnce()
	p.evaluate()
	if err := p.publish(); err != nil {
		t.Fatal(err)
	}
	families, err := p.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "learning_") {
			continue
		}
		var names []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		got[f.GetName()] = strings.Join(names, ",")
	}
	want := map[string]string{
		"learning_peer_accuracy":               "group,peer,split",
		"learning_peer_dataset_info":           "dataset,group,peer", // ours
		"learning_peer_info":                   "address,group,location,node,peer",
		"learning_peer_last_update_seconds":    "group,peer",
		"learning_peer_loss":                   "group,peer,split",
		"learning_peer_model_bytes_total":      "direction,group,peer",
		"learning_peer_models_published_total": "group,peer",
		"learning_peer_models_received_total":  "group,peer",
		"learning_peer_models_refused_total":   "group,peer,reason", // ours
		"learning_peer_round":                  "group,peer",
		"learning_peer_samples":                "group,peer",
		"learning_peer_training_seconds":       "group,peer",
		"learning_peer_trainings_total":        "group,peer",
	}
	for name, labels := range want {
		if got[name] != labels {
			t.Errorf("%s: got labels %q, want %q", name, got[name], labels)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is not in the contract", name)
	}
}

func TestANameIsTakenOnce(t *testing.T) {
	dir := newGroup(t)
	a := newPeer(t, dir, "same")
	defer run(t, a)()
	eventually(t, "the first joins", func() bool { return dir.Joined("same") })
	if err := newPeer(t, dir, "same").Run(t.Context()); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("got %v", err)
	}
	if !dir.Joined("same") {
		t.Error("the second took the first one's file away")
	}
}

func TestPeersBeginWithTheInitialModel(t *testing.T) {
	dir := newGroup(t)
	a, b := newPeer(t, dir, "a"), newPeer(t, dir, "b")
	defer func() { _, _ = a.listener.Close(), b.listener.Close() }()
	if !slices.Equal(a.net.Weights(), b.net.Weights()) {
		t.Error("two peers begin with different models")
	}
}
