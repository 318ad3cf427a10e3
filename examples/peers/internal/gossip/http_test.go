// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package gossip_test

import (
	"bytes"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/periplus-io/periplus/examples/peers/internal/gossip"
)

// party is a peer of which only the counting matters.
type party struct {
	frame []byte

	mu             sync.Mutex
	taken          []gossip.Model
	sent, received int
	refused        map[string]int
}

func (p *party) Current() []byte { return p.frame }

func (p *party) Offer(m gossip.Model) error {
	if m.Peer == "nobody" {
		return &gossip.Refusal{Reason: gossip.ReasonStranger}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken = append(p.taken, m)
	return gossip.Fits(m, "fashion", []int{2, 3, 2})
}

func (p *party) Sent(int)              { p.mu.Lock(); p.sent++; p.mu.Unlock() }
func (p *party) Received(int)          { p.mu.Lock(); p.received++; p.mu.Unlock() }
func (p *party) Refused(reason string) { p.mu.Lock(); p.refused[reason]++; p.mu.Unlock() }

func newParty(t *testing.T, name string) *party {
	m := tiny()
	m.Peer = name
	return &party{frame: encode(t, m), refused: map[string]int{}}
}

func TestExchangeGivesEachSideTheOthersModel(t *testing.T) {
	server, client := newParty(t, "server"), newParty(t, "client")
	s := httptest.NewServer(gossip.Handler(server))
	defer s.Close()
	c := gossip.Client{HTTP: s.Client(), Party: client}
	address := strings.TrimPrefix(s.URL, "http://")

	m, err := c.Exchange(t.Context(), address, client.frame)
	if err != nil || m.Peer != "server" {
		t.Fatalf("exchange: got %q, %v", m.Peer, err)
	}
	if len(server.taken) != 1 || server.taken[0].Peer != "client" {
		t.Errorf("the server took %+v", server.taken)
	}
	if m, err = c.Pull(t.Context(), address); err != nil || m.Peer != "server" {
		t.Fatalf("pull: got %q, %v", m.Peer, err)
	}
	if server.sent != 2 || server.received != 1 || client.sent != 1 || client.received != 2 {
		t.Errorf("counted: server %d sent, %d received; client %d sent, %d received", server.sent, server.received, client.sent, client.received)
	}
}

func TestHandlerRefusesAndCounts(t *testing.T) {
	poisoned := tiny()
	poisoned.Weights[3] = float32(math.NaN())
	stranger, foreign := tiny(), tiny()
	stranger.Peer, foreign.Group = "nobody", "others"
	for name, c := range map[string]struct {
		body   []byte
		status int
		reason string
	}{
		"garbage":   {[]byte("hello"), http.StatusBadRequest, gossip.ReasonMalformed},
		"no body":   {nil, http.StatusBadRequest, gossip.ReasonMalformed},
		"oversize":  {make([]byte, gossip.MaxFrame+1), http.StatusRequestEntityTooLarge, gossip.ReasonOversize},
		"NaN":       {encode(t, poisoned), http.StatusUnprocessableEntity, gossip.ReasonValues},
		"stranger":  {encode(t, stranger), http.StatusForbidden, gossip.ReasonStranger},
		"own group": {encode(t, foreign), http.StatusConflict, gossip.ReasonGroup},
	} {
		p := newParty(t, "server")
		w := httptest.NewRecorder()
		gossip.Handler(p).ServeHTTP(w, httptest.NewRequest(http.MethodPost, gossip.Path, bytes.NewReader(c.body)))
		if w.Code != c.status || p.refused[c.reason] != 1 || p.received != 0 || p.sent != 0 {
			t.Errorf("%s: got %d %s, refused %v; want %d, %s", name, w.Code, w.Body, p.refused, c.status, c.reason)
		}
	}
}

func TestClientRefusesBadAnswersAndCounts(t *testing.T) {
	poisoned := tiny()
	poisoned.Weights[0] = float32(math.Inf(1))
	for name, c := range map[string]struct {
		answer []byte
		reason string
	}{
		"garbage":  {[]byte("hello"), gossip.ReasonMalformed},
		"endless":  {make([]byte, 3*gossip.MaxFrame), gossip.ReasonOversize},
		"infinity": {encode(t, poisoned), gossip.ReasonValues},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = w.Write(c.answer)
		}))
		p := newParty(t, "client")
		_, err := gossip.Client{HTTP: s.Client(), Party: p}.Exchange(t.Context(), strings.TrimPrefix(s.URL, "http://"), p.frame)
		if err == nil || p.refused[c.reason] != 1 || p.received != 0 {
			t.Errorf("%s: got %v, refused %v", name, err, p.refused)
		}
		s.Close()
	}
}

func TestClientGivesUpOnAPeerThatHangs(t *testing.T) {
	hang := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer s.Close()
	defer close(hang)
	c := gossip.Client{HTTP: &http.Client{Timeout: 100 * time.Millisecond}, Party: newParty(t, "client")}
	began := time.Now()
	if _, err := c.Pull(t.Context(), strings.TrimPrefix(s.URL, "http://")); err == nil {
		t.Error("no error")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("gave up after %v", took)
	}
}
