// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learnapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/periplus-io/periplus/internal/learning"
)

// page is how many changes are read at once.
const page = 500

// events streams changes as server-sent events. The client resumes with Last-Event-ID, or ?after=; without either
// it gets what happens from now on.
func (a *API) events(w http.ResponseWriter, r *http.Request) {
	after, err := a.startOf(r)
	if err == nil {
		select {
		case a.slots <- struct{}{}:
			defer func() { <-a.slots }()
		default:
			a.dropped.WithLabelValues("too_many").Inc()
			err = &requestError{http.StatusServiceUnavailable, "unavailable", "too many readers of changes"}
		}
	}
	if err != nil {
		a.requests.WithLabelValues("/events", strconv.Itoa(a.write(w, nil, err))).Inc()
		return
	}
	a.requests.WithLabelValues("/events", "200").Inc()
	a.streams.Inc()
	defer a.streams.Dec()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	s := stream{api: a, w: w, control: http.NewResponseController(w)}
	// A stream outlives the time that the server gives a request; a recorder in a test has no such time.
	if err := s.control.SetReadDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return
	}
	if s.send([]byte("retry: 2000\n\n")) != nil {
		return
	}
	s.run(r.Context(), after)
}

func (a *API) startOf(r *http.Request) (uint64, error) {
	v := r.URL.Query()
	if err := only(v, "after"); err != nil {
		return 0, err
	}
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		text = v.Get("after")
	}
	if text == "" {
		return a.o.Model.Status().LastEvent, nil
	}
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, badRequest("event id %q is no number", text)
	}
	// An id from a store that was put aside would wait for ever.
	return min(id, a.o.Model.Status().LastEvent), nil
}

type stream struct {
	api     *API
	w       http.ResponseWriter
	control *http.ResponseController
}

// run sends pages of changes, and a comment as a heartbeat when there are none for a while.
func (s *stream) run(ctx context.Context, after uint64) {
	for ctx.Err() == nil {
		wait, cancel := context.WithTimeout(ctx, s.api.o.Heartbeat)
		list, gap, err := s.api.o.Model.Events(wait, after, page)
		cancel()
		if err != nil {
			s.api.o.Log.Error("read changes", "err", err)
			return
		}
		var b bytes.Buffer
		if len(list) == 0 {
			b.WriteString(": still here\n\n")
		}
		if gap && len(list) > 0 {
			fmt.Fprintf(&b, "event: gap\ndata: {\"after\":%d,\"next\":%d}\n\n", after, list[0].ID)
		}
		for i := range list {
			encode(&b, &list[i])
			after = list[i].ID
		}
		if err := s.send(b.Bytes()); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) { // the server ends ctx on any error
				s.api.dropped.WithLabelValues("slow").Inc()
			}
			return
		}
		s.api.sent.Add(float64(len(list)))
	}
}

func encode(b *bytes.Buffer, e *learning.Event) {
	text, err := json.Marshal(e)
	if err != nil {
		return // an event holds nothing that cannot be encoded
	}
	fmt.Fprintf(b, "id: %d\nevent: %s\ndata: %s\n\n", e.ID, e.Type, text)
}

// send writes and flushes within the time that a reader has.
func (s *stream) send(text []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.api.o.WriteTimeout)); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	if _, err := s.w.Write(text); err != nil {
		return err
	}
	return s.control.Flush()
}
