// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// Path is where a peer serves and takes models.
const Path = "/gossip/model"

// ContentType is the media type of a frame.
const ContentType = "application/vnd.periplus.gossip"

// Party is the peer on whose behalf [Handler] talks. Its methods are called concurrently.
type Party interface {
	// Current returns the frame of the newest model. The caller does not change it.
	Current() []byte
	// Offer takes a model that somebody pushed, or returns a *Refusal.
	Offer(m Model) error
	// Sent and Received count frames that went out and came in whole, in bytes; Refused one that was not
	// taken, by reason.
	Sent(bytes int)
	Received(bytes int)
	Refused(reason string)
}

// Handler serves [Path]: GET answers the newest model; POST takes the one in the body and answers the same.
func Handler(p Party) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+Path, func(w http.ResponseWriter, _ *http.Request) { answer(w, p) })
	mux.HandleFunc("POST "+Path, func(w http.ResponseWriter, r *http.Request) {
		if err := take(p, http.MaxBytesReader(w, r.Body, MaxFrame)); err != nil {
			refusal, ok := errors.AsType[*Refusal](err)
			if !ok {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			p.Refused(refusal.Reason)
			http.Error(w, refusal.Error(), status(refusal.Reason))
			return
		}
		answer(w, p)
	})
	return mux
}

func take(p Party, body io.Reader) error {
	b, err := io.ReadAll(body)
	if err != nil {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			return refuse(ReasonOversize, "more than %d bytes", MaxFrame)
		}
		return fmt.Errorf("read model: %w", err)
	}
	m, err := Decode(b)
	if err != nil {
		return err
	}
	if err := p.Offer(m); err != nil {
		return err
	}
	p.Received(len(b))
	return nil
}

func answer(w http.ResponseWriter, p Party) {
	frame := p.Current()
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("Content-Length", fmt.Sprint(len(frame)))
	if _, err := w.Write(frame); err == nil {
		p.Sent(len(frame))
	}
}

func status(reason string) int {
	switch reason {
	case ReasonOversize:
		return http.StatusRequestEntityTooLarge
	case ReasonVersion:
		return http.StatusUnsupportedMediaType
	case ReasonValues:
		return http.StatusUnprocessableEntity
	case ReasonGroup, ReasonShape:
		return http.StatusConflict
	case ReasonStranger:
		return http.StatusForbidden
	}
	return http.StatusBadRequest
}

// Client meets other peers. The zero value is not ready: HTTP must be set, with a timeout.
type Client struct {
	HTTP  *http.Client
	Party Party
}

// Exchange pushes frame to the peer at address and returns the model it answers with.
func (c Client) Exchange(ctx context.Context, address string, frame []byte) (Model, error) {
	return c.do(ctx, http.MethodPost, address, frame)
}

// Pull asks the peer at address for its model.
func (c Client) Pull(ctx context.Context, address string) (Model, error) {
	return c.do(ctx, http.MethodGet, address, nil)
}

func (c Client) do(ctx context.Context, method, address string, frame []byte) (Model, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+address+Path, bytes.NewReader(frame))
	if err != nil {
		return Model{}, err
	}
	req.Header.Set("Content-Type", ContentType)
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return Model{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		return Model{}, fmt.Errorf("%s %s: %s: %s", method, address, resp.Status, bytes.TrimSpace(why))
	}
	if frame != nil {
		c.Party.Sent(len(frame))
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxFrame+1))
	if err != nil {
		return Model{}, fmt.Errorf("%s %s: %w", method, address, err)
	}
	m, err := Decode(b)
	if err != nil {
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			c.Party.Refused(refusal.Reason)
		}
		return Model{}, err
	}
	return m, c.counted(m, len(b))
}

// counted lets the party judge m, and counts it as taken or refused.
func (c Client) counted(m Model, size int) error {
	if err := c.Party.Offer(m); err != nil {
		if refusal, ok := errors.AsType[*Refusal](err); ok {
			c.Party.Refused(refusal.Reason)
		}
		return err
	}
	c.Party.Received(size)
	return nil
}
