// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/periplus-io/periplus/examples/peers/internal/gossip"
	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

// circle is what a peer shows to the others and takes from them: its current frame, whom it knows, and
// the newest model of each. It is a [gossip.Party], safe for concurrent use.
type circle struct {
	self  roster.Member
	shape []int
	m     *metrics

	mu         sync.Mutex
	frame      []byte
	inbox      map[string]gossip.Model
	addresses  map[string]string
	neighbours []string
	read       time.Time // modification time of the list that was read last
	size       int64
}

// Current implements [gossip.Party].
func (c *circle) Current() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.frame
}

func (c *circle) show(frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frame = frame
}

// Offer implements [gossip.Party]. Only models of listed peers are kept, and of each only the newest, so
// the inbox cannot outgrow the list.
func (c *circle) Offer(m gossip.Model) error {
	if err := gossip.Fits(m, c.self.Group, c.shape); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.addresses[m.Peer]; !known {
		return &gossip.Refusal{Reason: gossip.ReasonStranger, Detail: "peer " + m.Peer + " is not listed"}
	}
	c.inbox[m.Peer] = m
	return nil
}

// Sent implements [gossip.Party].
func (c *circle) Sent(bytes int) {
	c.m.published.Inc()
	c.m.bytes.WithLabelValues("sent").Add(float64(bytes))
}

// Received implements [gossip.Party].
func (c *circle) Received(bytes int) {
	c.m.received.Inc()
	c.m.bytes.WithLabelValues("received").Add(float64(bytes))
}

// Refused implements [gossip.Party].
func (c *circle) Refused(reason string) { c.m.refused.WithLabelValues(reason).Inc() }

// empty returns the models that came in since the last call.
func (c *circle) empty() []gossip.Model {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]gossip.Model, 0, len(c.inbox))
	for _, m := range c.inbox {
		out = append(out, m)
	}
	clear(c.inbox)
	return out
}

// refresh reads the list of peers again if it changed. listed says whether this peer is on it; a list that
// cannot be read leaves what was known.
func (c *circle) refresh(dir roster.Dir) (listed bool, err error) {
	info, err := os.Stat(dir.Peers())
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil || info.ModTime().Equal(c.read) && info.Size() == c.size {
		return c.neighbours != nil, err
	}
	entries, err := dir.ReadPeers()
	if err != nil {
		return c.neighbours != nil, err
	}
	c.read, c.size = info.ModTime(), info.Size()
	c.addresses = make(map[string]string, len(entries))
	c.neighbours = nil
	for _, e := range entries {
		if e.Peer == c.self.Peer {
			c.neighbours = append([]string{}, e.Neighbours...)
			continue
		}
		c.addresses[e.Peer] = e.Address
	}
	for name := range c.inbox {
		if _, known := c.addresses[name]; !known {
			delete(c.inbox, name)
		}
	}
	return c.neighbours != nil, nil
}

// choose picks up to n neighbours at random, with their addresses.
func (c *circle) choose(rng *rand.Rand, n int) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]string, n)
	for _, i := range rng.Perm(len(c.neighbours)) {
		if len(out) == n {
			break
		}
		if a, ok := c.addresses[c.neighbours[i]]; ok {
			out[c.neighbours[i]] = a
		}
	}
	return out
}
