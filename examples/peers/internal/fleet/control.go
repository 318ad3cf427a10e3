// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

func socket(dir roster.Dir) string { return filepath.Join(string(dir), "fleet.sock") }

// listen opens the socket in the group's folder on which add, remove and list arrive. It returns what
// closes it.
func (f *Fleet) listen() (func(), error) {
	path := socket(f.o.Dir)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // of a launcher that was killed; we hold the lock
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w (a socket's path may have about 100 characters; use a shorter --dir)", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /peers", func(w http.ResponseWriter, _ *http.Request) {
		f.mu.Lock()
		members := append([]roster.Member{}, f.current...)
		f.mu.Unlock()
		_ = json.NewEncoder(w).Encode(members)
	})
	mux.HandleFunc("POST /peers", func(w http.ResponseWriter, r *http.Request) {
		name, err := f.Add(r.URL.Query().Get("language"))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, name+"\n")
	})
	mux.HandleFunc("DELETE /peers/{name}", func(w http.ResponseWriter, r *http.Request) {
		if err := f.Remove(r.PathValue("name"), r.URL.Query().Has("kill")); err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(f.log.Handler(), slog.LevelDebug)}
	f.waiting.Go(func() { _ = server.Serve(l) })
	return func() { _ = server.Close() }, nil
}

// Control talks to the launcher that runs in a folder.
type Control struct{ Dir roster.Dir }

// Add asks for one more peer and returns its name.
func (c Control) Add(ctx context.Context, language string) (string, error) {
	body, err := c.do(ctx, http.MethodPost, "/peers?language="+url.QueryEscape(language))
	return strings.TrimSpace(string(body)), err
}

// Remove asks a peer to leave, or kills it.
func (c Control) Remove(ctx context.Context, name string, kill bool) error {
	path := "/peers/" + url.PathEscape(name)
	if kill {
		path += "?kill"
	}
	_, err := c.do(ctx, http.MethodDelete, path)
	return err
}

// List returns the members that the launcher lists now.
func (c Control) List(ctx context.Context) ([]roster.Member, error) {
	body, err := c.do(ctx, http.MethodGet, "/peers")
	if err != nil {
		return nil, err
	}
	var out []roster.Member
	return out, json.Unmarshal(body, &out)
}

func (c Control) do(ctx context.Context, method, path string) ([]byte, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket(c.Dir))
	}
	transport := &http.Transport{DialContext: dial, DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(ctx, method, "http://fleet"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("no fleet runs in %s: %w", c.Dir, err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(string(body)))
	}
	return body, nil
}
