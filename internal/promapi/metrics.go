// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package promapi

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	federate *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_promapi_requests_total",
			Help: "Requests answered, by route and status code.",
		}, []string{"handler", "code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "periplus_promapi_request_duration_seconds",
			Help:    "Time to answer a request, by route.",
			Buckets: []float64{.005, .025, .1, .5, 2.5, 10, 60},
		}, []string{"handler"}),
		federate: f.NewCounterVec(prometheus.CounterOpts{
			Name: "periplus_promapi_federate_series_total",
			Help: "Series of federation requests: sent, or left out by reason.",
		}, []string{"outcome"}),
	}
}

// instrument counts requests by route pattern, which is a bounded set.
func (a *API) instrument(pattern string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next(rec, req)
		a.metrics.requests.WithLabelValues(pattern, strconv.Itoa(rec.status)).Inc()
		a.metrics.duration.WithLabelValues(pattern).Observe(time.Since(start).Seconds())
	}
}

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter

	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Flush sends what there is; streamed answers (remote read, notifications) ask for it.
func (r *recorder) Flush() {
	_ = http.NewResponseController(r.ResponseWriter).Flush() // a writer that cannot flush sends at the end
}

// Unwrap lets http.ResponseController reach the connection.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// notFound gives paths that do not exist the API's error envelope.
func notFound(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		next.ServeHTTP(&plainNotFound{ResponseWriter: w, path: req.URL.Path}, req)
	})
}

// plainNotFound replaces the router's own plain-text 404 and 405; JSON ones are the API's and pass.
type plainNotFound struct {
	http.ResponseWriter

	path     string
	replaced bool
}

func (p *plainNotFound) WriteHeader(status int) {
	plain := strings.HasPrefix(p.Header().Get("Content-Type"), "text/plain")
	switch {
	case plain && status == http.StatusNotFound:
		p.replaced = true
		respondError(p.ResponseWriter, status, "not_found", "no such route: "+p.path)
	case plain && status == http.StatusMethodNotAllowed:
		p.replaced = true
		respondError(p.ResponseWriter, status, "bad_data", "method not allowed on "+p.path)
	default:
		p.ResponseWriter.WriteHeader(status)
	}
}

func (p *plainNotFound) Write(b []byte) (int, error) {
	if p.replaced {
		return len(b), nil
	}
	return p.ResponseWriter.Write(b) //nolint:wrapcheck // a pass-through
}

// Flush passes on.
func (p *plainNotFound) Flush() {
	_ = http.NewResponseController(p.ResponseWriter).Flush() // as in recorder
}

// Unwrap lets http.ResponseController reach the connection.
func (p *plainNotFound) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// respondError writes the API's error envelope.
func respondError(w http.ResponseWriter, status int, kind, text string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Del("Content-Length")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]string{"status": "error", "errorType": kind, "error": text}) // the client is gone
}
