// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package client asks a hub's learning API. It knows the shared vocabulary and the documented envelope, nothing of
// the hub's inside. Errors of the hub come as [Error] with its words; [Client.Watch] follows the stream of changes
// and resumes it after an interruption.
package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/periplus-io/periplus/internal/learning"
)

const prefix = "/api/v1/learning"

// Client asks one hub. Both fields must be set.
type Client struct {
	// Base is the hub's address, such as http://127.0.0.1:8420.
	Base string
	HTTP *http.Client
}

// Error is the hub's answer to a request that it could not fulfil.
type Error struct {
	Code int
	Type string
	Text string
}

// Error gives the hub's words.
func (e *Error) Error() string { return e.Text }

// Is makes a not_found error learning.ErrNotFound.
func (e *Error) Is(target error) bool { return target == learning.ErrNotFound && e.Type == "not_found" }

// Jobs gives one page of jobs.
func (c *Client) Jobs(ctx context.Context, q learning.JobQuery) (learning.JobPage, error) {
	v := url.Values{}
	for key, values := range map[string][]string{
		"namespace": q.Namespaces, "kind": q.Kinds, "stage": q.Stages, "condition": q.Conditions, "node": q.Nodes,
	} {
		for _, s := range values {
			v.Add(key, s)
		}
	}
	if q.Text != "" {
		v.Set("q", q.Text)
	}
	if q.Sort != "" {
		v.Set("sort", q.Sort)
	}
	if q.Deleted {
		v.Set("deleted", "true")
	}
	if q.Offset > 0 {
		v.Set("offset", strconv.Itoa(q.Offset))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	var page learning.JobPage
	return page, c.get(ctx, "/jobs?"+v.Encode(), &page)
}

// Job gives one job; an empty kind means any, an empty uid the present or else the one deleted last.
func (c *Client) Job(ctx context.Context, namespace, kind, name, uid string) (learning.JobDetail, error) {
	if kind == "" {
		kind = "-"
	}
	path := "/jobs/" + url.PathEscape(namespace) + "/" + url.PathEscape(kind) + "/" + url.PathEscape(name)
	if uid != "" {
		path += "?uid=" + url.QueryEscape(uid)
	}
	var d learning.JobDetail
	return d, c.get(ctx, path, &d)
}

// Status gives the state of the hub's sources.
func (c *Client) Status(ctx context.Context) (learning.Status, error) {
	var s learning.Status
	return s, c.get(ctx, "/status", &s)
}

// get asks and opens the envelope.
func (c *Client) get(ctx context.Context, path string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.Base, "/")+prefix+path, nil)
	if err != nil {
		return fmt.Errorf("address: %w", err)
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	var body struct {
		Status string          `json:"status"`
		Data   json.RawMessage `json:"data"`
		Type   string          `json:"errorType"`
		Error  string          `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 256<<20)).Decode(&body); err != nil {
		return fmt.Errorf("%s answered %s and no learning API: %w", c.Base, res.Status, err)
	}
	if body.Status != "success" {
		return &Error{Code: res.StatusCode, Type: body.Type, Text: body.Error}
	}
	if err := json.Unmarshal(body.Data, into); err != nil {
		return fmt.Errorf("decode answer: %w", err)
	}
	return nil
}

// Watch calls f for every change after an id, from now on for 0, until ctx ends or f gives an error. A broken
// connection is made again after a pause and goes on where it was; f is called with a zero event whenever it was made, because
// changes may have been missed.
func (c *Client) Watch(ctx context.Context, after uint64, f func(learning.Event) error) error {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		before := after
		err := c.stream(ctx, &after, f)
		if stop, ok := errors.AsType[*stopped](err); ok {
			return stop.error
		}
		var refused *Error
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.As(err, &refused) && refused.Code < 500 {
			return err
		}
		if after != before {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// stopped is the error of the function that takes events.
type stopped struct{ error }

func (c *Client) stream(ctx context.Context, after *uint64, f func(learning.Event) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.Base, "/")+prefix+"/events", nil)
	if err != nil {
		return &stopped{fmt.Errorf("address: %w", err)}
	}
	if *after > 0 {
		req.Header.Set("Last-Event-ID", strconv.FormatUint(*after, 10))
	}
	res, err := c.HTTP.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return &Error{Code: res.StatusCode, Text: "the hub answered " + res.Status}
	}
	if err := f(learning.Event{}); err != nil {
		return &stopped{err}
	}
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e learning.Event
		if json.Unmarshal([]byte(data), &e) != nil || e.ID == 0 {
			continue // a gap: the reader asks for the whole picture anyway
		}
		*after = e.ID
		if err := f(e); err != nil {
			return &stopped{err}
		}
	}
	return lines.Err()
}
