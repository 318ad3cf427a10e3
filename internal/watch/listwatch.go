// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/periplus-io/periplus/internal/watch/frame"
)

const (
	pageSize = 500
	// initialStall is how long a streaming list may be silent before it counts as not supported.
	initialStall = time.Minute
	// refusedRetry is the time to the next attempt when the API server says no.
	refusedRetry = 20 * time.Second
	missingRetry = 3 * time.Second
	listTimeout  = 10 * time.Minute
	// shortest is how long a watch must have lived to be renewed at once.
	shortest = 5 * time.Second
)

// listWatch follows one collection of the API server. Its states:
//
//	list ──(all objects seen)──> watch ──(closed)──> watch from the last version
//	  ^                            │
//	  └──(410: version too old)────┘
//
// A list is a streaming watch that sends the initial events; where the server refuses that, pages.
type listWatch struct {
	feed     *feed
	table    *table
	client   *client
	selector string
	strip    *stripper
	limit    int
	metrics  *metrics
	log      *slog.Logger
	missing  func() // called when the kind is not served any more

	// version is the resourceVersion to go on from; empty means list.
	version string
	// paged means that the server refused a streaming list.
	paged   bool
	began   time.Time // of the current request
	backoff backoff
}

// run goes on until ctx ends. It may be called again later and then resumes.
func (l *listWatch) run(ctx context.Context) {
	for ctx.Err() == nil {
		var err error
		l.began = time.Now()
		if l.version == "" {
			l.note(StateSyncing, nil)
		}
		if l.version == "" && l.paged {
			err = l.list(ctx)
		} else {
			err = l.watch(ctx)
		}
		if ctx.Err() != nil {
			return
		}
		sleep(ctx, l.judge(err))
	}
}

// judge draws the consequence of how a request ended and gives the pause before the next.
func (l *listWatch) judge(err error) time.Duration {
	code := statusCode(err)
	switch {
	case err == nil:
		return 0
	case code == http.StatusGone:
		l.metrics.restarts.WithLabelValues("expired").Inc()
		l.version = ""
		return l.backoff.delay()
	case l.version == "" && !l.paged && (code == http.StatusUnprocessableEntity || code == http.StatusBadRequest || errors.Is(err, errStalled)):
		l.metrics.restarts.WithLabelValues("no_streaming").Inc()
		l.paged = true
		return 0
	case code == http.StatusTooManyRequests: // busy, or the storage of a new kind is being set up
		l.metrics.restarts.WithLabelValues("busy").Inc()
		return l.backoff.delay()
	case code == http.StatusForbidden:
		l.metrics.restarts.WithLabelValues("refused").Inc()
		l.note(StateForbidden, err)
		return jitter(refusedRetry)
	case code == http.StatusNotFound || code == http.StatusMethodNotAllowed:
		l.note(StateMissing, err)
		l.missing()
		return jitter(missingRetry)
	case errors.Is(err, io.EOF):
		l.metrics.restarts.WithLabelValues("closed").Inc()
		if time.Since(l.began) > shortest {
			return 0
		}
		return l.backoff.delay()
	default:
		l.metrics.restarts.WithLabelValues("error").Inc()
		l.note(StateError, err)
		return l.backoff.delay()
	}
}

func (l *listWatch) note(state State, err error) {
	if !l.feed.set(state, err) {
		return
	}
	level := slog.LevelInfo
	if err != nil {
		level = slog.LevelWarn
	}
	l.log.Log(context.Background(), level, "kind changed state",
		"kind", l.table.kind.String(), "namespace", l.feed.namespace, "state", string(state), "err", err)
}

var errStalled = errors.New("initial list stalled")

// watch reads events from l.version on, or all objects first if that is empty. It ends with an error,
// io.EOF when the server closed.
func (l *listWatch) watch(ctx context.Context) error {
	seconds := 300 + rand.IntN(300)
	ctx, cancel := context.WithTimeoutCause(ctx, time.Duration(seconds+30)*time.Second, io.EOF)
	defer cancel()
	query := l.query()
	query.Set("watch", "1")
	query.Set("allowWatchBookmarks", "true")
	query.Set("timeoutSeconds", strconv.Itoa(seconds))
	initial := l.version == ""
	ctx, stall := context.WithCancelCause(ctx)
	defer stall(nil)
	timer := time.AfterFunc(24*time.Hour, func() { stall(errStalled) })
	defer timer.Stop()
	if initial {
		l.feed.round++
		l.metrics.lists.WithLabelValues("stream").Inc()
		query.Set("sendInitialEvents", "true")
		query.Set("resourceVersionMatch", "NotOlderThan")
		timer.Reset(initialStall)
	} else {
		query.Set("resourceVersion", l.version)
	}
	body, err := l.client.get(ctx, kindPath(l.table.kind, l.feed.namespace), query, "application/json")
	if err != nil {
		return err
	}
	defer closeBody(body)
	if !initial {
		l.note(StateWatching, nil)
	}
	frames := frame.NewReader(body, l.limit+frame.Envelope)
	for {
		raw, err := frames.Next()
		received := time.Now()
		if err != nil && !errors.Is(err, frame.ErrTooLarge) {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return err
		}
		if initial {
			timer.Reset(initialStall)
		}
		l.backoff.reset()
		if err != nil {
			l.tooLarge(raw, initial)
			continue
		}
		end, err := l.event(ctx, raw, received, initial)
		if err != nil {
			return err
		}
		if end {
			initial = false
			timer.Reset(24 * time.Hour)
		}
	}
}

func (l *listWatch) query() url.Values {
	query := url.Values{}
	if l.selector != "" {
		query.Set("labelSelector", l.selector)
	}
	return query
}

// bookmark is what is read of an event that carries no object.
type bookmark struct {
	Metadata struct {
		ResourceVersion string            `json:"resourceVersion"`
		Annotations     map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// event takes in one watch event. end means that the initial list is complete.
func (l *listWatch) event(ctx context.Context, raw []byte, received time.Time, initial bool) (end bool, err error) {
	f, err := frame.ParseEvent(raw)
	if err != nil {
		return false, err
	}
	switch f.Type {
	case "ADDED", "MODIFIED", "DELETED":
		version := l.object(f, received)
		if !initial && version != "" {
			l.version = version
		}
		return false, nil
	case "BOOKMARK":
		var b bookmark
		if err := json.Unmarshal(f.Object, &b); err != nil {
			return false, fmt.Errorf("decode bookmark: %w", err)
		}
		if initial {
			if b.Metadata.Annotations[metav1.InitialEventsAnnotationKey] != "true" {
				return false, nil
			}
			if err := l.complete(ctx, b.Metadata.ResourceVersion); err != nil {
				return false, err
			}
			return true, nil
		}
		l.version = b.Metadata.ResourceVersion
		return false, nil
	case "ERROR":
		var status metav1.Status
		if err := json.Unmarshal(f.Object, &status); err != nil {
			return false, fmt.Errorf("decode error event: %w", err)
		}
		return false, &apierrors.StatusError{ErrStatus: status}
	default:
		return false, fmt.Errorf("unknown watch event type %q", f.Type)
	}
}

// object takes in the object of an event and gives its resourceVersion. One that cannot be decoded
// is counted and left out.
func (l *listWatch) object(f frame.Event, received time.Time) (version string) {
	o, err := frame.Decode(f.Object)
	if err == nil && (o.Name() == "" || o.UID() == "") {
		err = errors.New("object without name or uid")
	}
	if err != nil {
		id := frame.Peek(f.Object)
		reason := "malformed"
		if errors.Is(err, frame.ErrTooLarge) {
			reason = "too_large"
		}
		l.lost(reason, id, err)
		l.table.confirm(l.feed, key{id.Namespace, id.Name})
		return id.Version
	}
	version = o.Text("metadata", "resourceVersion")
	kind := l.table.kind
	o["apiVersion"], o["kind"] = kind.APIVersion(), kind.Kind
	l.strip.strip(kind, o)
	if f.Type == "DELETED" {
		l.table.remove(l.feed, key{o.Namespace(), o.Name()}, o, received)
	} else {
		l.table.apply(l.feed, observation{object: o, version: version, received: received})
	}
	return version
}

// tooLarge takes in the beginning of an event that is longer than the cap. What was known of the
// object before stays.
func (l *listWatch) tooLarge(head []byte, initial bool) {
	id := frame.Peek(head)
	l.lost("too_large", id, frame.ErrTooLarge)
	l.table.confirm(l.feed, key{id.Namespace, id.Name})
	if !initial && id.Version != "" {
		l.version = id.Version
	}
}

func (l *listWatch) lost(reason string, id frame.Identity, err error) {
	l.metrics.lost.WithLabelValues(reason).Inc()
	l.feed.set(l.feed.current(), fmt.Errorf("%v: %w", id, err))
	l.log.Warn("object left out", "kind", l.table.kind.String(), "object", id.String(), "err", err)
}

// complete ends a full list: what was not in it is gone, and watching goes on from version.
func (l *listWatch) complete(ctx context.Context, version string) error {
	if err := l.table.sweep(ctx, l.feed); err != nil {
		return err
	}
	l.version = version
	l.table.synced(l.feed)
	l.note(StateWatching, nil)
	return nil
}

// list reads all objects in pages.
func (l *listWatch) list(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	l.feed.round++
	l.metrics.lists.WithLabelValues("page").Inc()
	query := l.query()
	query.Set("limit", strconv.Itoa(pageSize))
	for {
		meta, err := l.page(ctx, query)
		if statusCode(err) == http.StatusGone && query.Has("continue") {
			// the list grew too old between pages: once more in a single piece
			query.Del("continue")
			query.Del("limit")
			continue
		}
		if err != nil {
			return err
		}
		l.backoff.reset()
		if meta.Continue == "" {
			return l.complete(ctx, meta.ResourceVersion)
		}
		query.Set("continue", meta.Continue)
	}
}

func (l *listWatch) page(ctx context.Context, query url.Values) (frame.ListMeta, error) {
	body, err := l.client.get(ctx, kindPath(l.table.kind, l.feed.namespace), query, "application/json")
	if err != nil {
		return frame.ListMeta{}, err
	}
	defer closeBody(body)
	received := time.Now()
	return frame.ReadList(body, func(raw []byte) error {
		if len(raw) > l.limit {
			l.tooLarge(raw[:frame.Envelope], true)
			return ctx.Err()
		}
		l.object(frame.Event{Type: "ADDED", Object: raw}, received)
		return ctx.Err()
	})
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
