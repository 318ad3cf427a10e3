// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
)

// Health collects what a program waits for before it is ready. The zero value is ready. It is safe
// for concurrent use.
type Health struct {
	mu     sync.Mutex
	checks map[string]func() error
}

// Require makes readiness depend on check, which is called at each request and must return at once.
func (h *Health) Require(name string, check func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.checks == nil {
		h.checks = map[string]func() error{}
	}
	h.checks[name] = check
}

// Missing lists, sorted, what is not ready and why.
func (h *Health) Missing() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var missing []string
	for name, check := range h.checks {
		if err := check(); err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", name, err))
		}
	}
	slices.Sort(missing)
	return missing
}

// Register serves /-/healthy, which answers 200 as long as the process serves, and /-/ready, which
// answers 503 with the reasons until nothing is missing.
func (h *Health) Register(mux *http.ServeMux) {
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "Periplus is healthy.")
	})
	mux.HandleFunc("GET /-/ready", func(w http.ResponseWriter, _ *http.Request) {
		if missing := h.Missing(); len(missing) > 0 {
			http.Error(w, "not ready\n"+strings.Join(missing, "\n"), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "Periplus is ready.")
	})
}
