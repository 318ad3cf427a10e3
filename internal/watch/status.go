// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/periplus-io/periplus/internal/resource"
)

// Status is how it stands with everything watched.
type Status struct {
	Sources []SourceStatus
	Kinds   []KindStatus
}

// SourceStatus is how it stands with the API server or the manifest folders.
type SourceStatus struct {
	// Name is kubernetes or manifests.
	Name string
	// Address is the API server's URL, or the folders.
	Address string
	// State is off (not configured), connecting, connected or error.
	State string
	// Err is the newest error, empty while all is well; Files are invalid manifests.
	Err   string
	Files []FileError
	Since time.Time
}

// FileError is a manifest file that cannot be read. Its last good content holds.
type FileError struct {
	Path string
	Line int // 0 when not known
	Err  string
}

// KindStatus is how it stands with one kind.
type KindStatus struct {
	// Kind has no plural, and maybe wildcards, while it is missing.
	Kind      resource.Kind
	State     State
	Objects   int
	LastEvent time.Time
	// LastErr is the newest error; it may be over.
	LastErr   string
	LastErrAt time.Time
}

// Ready tells whether every configured source has been read once, as far as it can be: what is
// forbidden, missing or unreachable is waited for by nobody.
func (s Status) Ready() bool {
	connecting := func(source SourceStatus) bool { return source.State == sourceConnecting }
	return !slices.ContainsFunc(s.Sources, connecting) && !slices.ContainsFunc(s.Kinds, func(k KindStatus) bool { return k.State == StateSyncing })
}

const (
	sourceOff        = "off"
	sourceConnecting = "connecting"
	sourceConnected  = "connected"
	sourceError      = "error"
)

// sourceState is the changing part of a source.
type sourceState struct {
	name string

	mu      sync.Mutex
	address string
	state   string
	err     error
	since   time.Time
	files   []FileError
	missing []Want
	failed  map[string]error
}

// set notes a state and tells whether it is news.
func (s *sourceState) set(address, state string, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.state != state || s.address != address
	if s.state != state {
		s.since = time.Now()
	}
	s.address, s.state, s.err = address, state, err
	if state == sourceOff {
		s.files, s.missing, s.failed = nil, nil, nil
	}
	return news
}

// begin notes that a source has been configured and is still to be read.
func (s *sourceState) begin(address string) {
	s.mu.Lock()
	off := s.state == "" || s.state == sourceOff
	s.mu.Unlock()
	if off {
		s.set(address, sourceConnecting, nil)
	}
}

func (s *sourceState) setMissing(missing []Want, failed map[string]error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.missing, s.failed = missing, failed
}

func (s *sourceState) setFiles(files []FileError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = files
}

func (s *sourceState) status() SourceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := SourceStatus{Name: s.name, Address: s.address, State: s.state, Since: s.since, Files: s.files}
	if st.State == "" {
		st.State = sourceOff
	}
	if s.err != nil {
		st.Err = s.err.Error()
	}
	return st
}

// absent gives the wanted kinds that the source does not have.
func (s *sourceState) absent() []KindStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	var kinds []KindStatus
	for _, w := range s.missing {
		k := KindStatus{Kind: resource.Kind{Group: w.Group, Version: w.Version, Kind: w.Kind}, State: StateMissing}
		if err := s.failed[w.Group]; err != nil {
			k.State, k.LastErr, k.LastErrAt = StateError, err.Error(), time.Now()
		}
		kinds = append(kinds, k)
	}
	return kinds
}

// status sums up the kind over its feeds: the most pressing state, the newest error.
func (t *table) status() KindStatus {
	k := KindStatus{Kind: t.kind}
	k.Objects, k.LastEvent = t.size()
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := states()
	worst := 0
	for f := range t.feeds {
		state, at, err := f.get()
		worst = max(worst, slices.Index(all, state))
		if err != nil && at.After(k.LastErrAt) {
			k.LastErr, k.LastErrAt = err.Error(), at
		}
	}
	k.State = all[worst]
	return k
}

func sortKinds(kinds []KindStatus) {
	slices.SortFunc(kinds, func(a, b KindStatus) int { return strings.Compare(a.Kind.String(), b.Kind.String()) })
}
