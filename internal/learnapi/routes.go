// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learnapi

import (
	"net/http"
	"strconv"
)

// Prefix is the path below which the API answers.
const Prefix = "/api/v1/learning"

// routes is the whole API at a glance.
func (a *API) routes() {
	for path, h := range map[string]func(*http.Request) (any, error){
		"/jobs":                                a.jobs,
		"/jobs/{namespace}/{kind}/{name}":      a.job,
		"/datasets":                            a.datasets,
		"/models":                              a.models,
		"/resources":                           a.kinds,
		"/resources/{kind}":                    a.resources,
		"/resources/{kind}/{namespace}/{name}": a.resource,
		"/status":                              a.status,
	} {
		a.mux.Handle("GET "+Prefix+path, a.answer(path, h))
	}
	a.mux.HandleFunc("GET "+Prefix+"/events", a.events)
	a.mux.Handle(Prefix+"/", a.answer("other", unknown))
}

// answer turns a function of a request into a handler.
func (a *API) answer(route string, f func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := f(r)
		code := a.write(w, data, err)
		a.requests.WithLabelValues(route, strconv.Itoa(code)).Inc()
	})
}
