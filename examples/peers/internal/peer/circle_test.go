// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/periplus-io/periplus/examples/peers/internal/gossip"
	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

func newCircle(t *testing.T) (*circle, roster.Dir) {
	t.Helper()
	self := roster.Member{Peer: "me", Group: "test"}
	c := &circle{self: self, shape: []int{1, 1}, m: newMetrics(prometheus.NewRegistry(), self, "fashion-mnist"), inbox: map[string]gossip.Model{}}
	dir := roster.Dir(t.TempDir())
	if err := dir.WritePeers([]roster.Entry{
		{Peer: "me", Address: "a:0", Neighbours: []string{"b", "gone"}},
		{Peer: "b", Address: "a:1", Neighbours: []string{"me"}},
		{Peer: "c", Address: "a:2"},
	}); err != nil {
		t.Fatal(err)
	}
	if listed, err := c.refresh(dir); err != nil || !listed {
		t.Fatalf("listed %v, %v", listed, err)
	}
	return c, dir
}

func model(peer string, round uint64) gossip.Model {
	return gossip.Model{Peer: peer, Group: "test", Round: round, Shape: []int{1, 1}, Weights: []float32{1, 2}}
}

func TestInboxKeepsTheNewestOfEachListedPeer(t *testing.T) {
	c, _ := newCircle(t)
	for _, m := range []gossip.Model{model("b", 1), model("b", 2), model("c", 5)} {
		if err := c.Offer(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []gossip.Model{model("me", 1), model("nobody", 1)} {
		var refusal *gossip.Refusal
		if err := c.Offer(m); !errors.As(err, &refusal) || refusal.Reason != gossip.ReasonStranger {
			t.Errorf("from %s: got %v", m.Peer, err)
		}
	}
	got := map[string]uint64{}
	for _, m := range c.empty() {
		got[m.Peer] = m.Round
	}
	if len(got) != 2 || got["b"] != 2 || got["c"] != 5 {
		t.Errorf("got %v", got)
	}
	if again := c.empty(); len(again) != 0 {
		t.Errorf("a second time: got %v", again)
	}
}

func TestChooseTakesOnlyNeighboursWithAnAddress(t *testing.T) {
	c, _ := newCircle(t)
	got := c.choose(rand.New(rand.NewPCG(1, 1)), 5)
	if len(got) != 1 || got["b"] != "a:1" {
		t.Errorf("got %v", got)
	}
}

func TestListIsReadAgainWhenItChanges(t *testing.T) {
	c, dir := newCircle(t)
	if err := c.Offer(model("b", 1)); err != nil {
		t.Fatal(err)
	}
	if err := dir.WritePeers([]roster.Entry{{Peer: "c", Address: "a:2"}}); err != nil {
		t.Fatal(err)
	}
	if listed, err := c.refresh(dir); err != nil || listed {
		t.Errorf("listed %v, %v, want false", listed, err)
	}
	if got := c.empty(); len(got) != 0 {
		t.Errorf("models of peers that are gone: %v", got)
	}
	if err := os.WriteFile(dir.Peers(), []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.refresh(dir); err == nil {
		t.Error("half a list: no error")
	}
	if err := c.Offer(model("c", 1)); err != nil {
		t.Errorf("what was known is gone: %v", err)
	}
}
