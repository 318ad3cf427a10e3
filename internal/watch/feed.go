// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"math/rand/v2"
	"sync"
	"time"
)

// State tells how it stands with a kind.
type State string

// The states of a kind.
const (
	// StateSyncing means that the first full list is under way.
	StateSyncing State = "syncing"
	// StateWatching means that all objects are known and changes arrive.
	StateWatching State = "watching"
	// StateForbidden means that the API server refuses the kind to this user; it is asked again.
	StateForbidden State = "forbidden"
	// StateMissing means that the kind is not served; it is looked for.
	StateMissing State = "missing"
	// StateError means that the source cannot be read; it is tried again.
	StateError State = "error"
)

// states lists all, the most pressing last.
func states() []State {
	return []State{StateWatching, StateSyncing, StateMissing, StateForbidden, StateError}
}

// feed is one stream of observations of one kind: a namespace, all namespaces, or manifest files.
type feed struct {
	namespace string
	// rank decides who wins when two feeds have the same object: the higher.
	rank int
	// round counts full lists. Only the goroutine that runs the feed uses it.
	round uint32

	mu    sync.Mutex
	state State
	err   error
	errAt time.Time
}

const (
	rankManifests = 1
	rankCluster   = 2
)

// set notes a state and tells whether it is another one. The newest error stays when it is over.
func (f *feed) set(state State, err error) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	news := f.state != state
	f.state = state
	if err != nil {
		f.err, f.errAt = err, time.Now()
	}
	return news
}

// get gives the state and the newest error, which may be over.
func (f *feed) get() (state State, at time.Time, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state, f.errAt, f.err
}

// current is the state alone.
func (f *feed) current() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// backoff spaces out attempts: doubling from first to last, with jitter so that many do not come at once.
type backoff struct {
	next time.Duration
}

const (
	backoffFirst = 250 * time.Millisecond
	backoffLast  = 15 * time.Second
)

func (b *backoff) reset() { b.next = 0 }

func (b *backoff) delay() time.Duration {
	b.next = min(max(2*b.next, backoffFirst), backoffLast)
	return jitter(b.next)
}

// jitter gives a duration between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
