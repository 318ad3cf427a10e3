// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learnapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/periplus-io/periplus/internal/learning"
)

// version is the version of every answer's shape.
const version = "learning/v1"

// envelope is around every answer.
type envelope struct {
	Version string `json:"version"`
	Status  string `json:"status"`
	Data    any    `json:"data,omitempty"`
	Type    string `json:"errorType,omitempty"`
	Error   string `json:"error,omitempty"`
}

// requestError is a request that cannot be answered as it stands.
type requestError struct {
	code int
	kind string
	text string
}

func (e *requestError) Error() string { return e.text }

func badRequest(format string, args ...any) error {
	return &requestError{http.StatusBadRequest, "bad_data", fmt.Sprintf(format, args...)}
}

func notFound(format string, args ...any) error {
	return &requestError{http.StatusNotFound, "not_found", fmt.Sprintf(format, args...)}
}

// unknown answers whatever no route takes.
func unknown(r *http.Request) (any, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return nil, &requestError{http.StatusMethodNotAllowed, "bad_method", r.Method + " is not supported here"}
	}
	return nil, notFound("there is nothing at %s", r.URL.Path)
}

// write encodes an answer or an error and gives the status code.
func (a *API) write(w http.ResponseWriter, data any, err error) int {
	code, out := http.StatusOK, envelope{Version: version, Status: "success", Data: data}
	if err != nil {
		var re *requestError
		switch {
		case errors.As(err, &re):
			code, out = re.code, envelope{Version: version, Status: "error", Type: re.kind, Error: re.text}
		case errors.Is(err, learning.ErrNotFound):
			code, out = http.StatusNotFound, envelope{Version: version, Status: "error", Type: "not_found", Error: err.Error()}
		default:
			a.o.Log.Error("learning request", "err", err)
			code, out = http.StatusInternalServerError, envelope{Version: version, Status: "error", Type: "internal", Error: err.Error()}
		}
	}
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // comparisons stay readable; the type is JSON
	if err := enc.Encode(&out); err != nil {
		a.o.Log.Error("encode learning answer", "err", err)
		http.Error(w, "the answer could not be encoded", http.StatusInternalServerError)
		return http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if code == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", "GET, HEAD")
	}
	w.WriteHeader(code)
	_, _ = w.Write(body.Bytes()) // the client may be gone
	return code
}
