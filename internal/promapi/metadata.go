// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package promapi

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/util/httputil"
)

// Metadata is type, unit and help by metric name, a name more than once where sources differ.
type Metadata = iter.Seq2[string, metadata.Metadata]

// metadata answers /api/v1/metadata. It takes the place of Prometheus' own route, which knows the metrics of
// scraped targets only, and adds what [Options.Described] says; its form and parameters are the same.
func (a *API) metadata(w http.ResponseWriter, req *http.Request) {
	httputil.SetCORS(w, a.cors, req)
	limit, err := limitParam(req, "limit")
	if err != nil {
		respondError(w, http.StatusBadRequest, "bad_data", err.Error())
		return
	}
	perMetric, err := limitParam(req, "limit_per_metric")
	if err != nil {
		respondError(w, http.StatusBadRequest, "bad_data", err.Error())
		return
	}
	metric := req.FormValue("metric")
	found := map[string][]metadata.Metadata{}
	add := func(name string, m metadata.Metadata) {
		known := found[name]
		if (metric != "" && name != metric) || slices.Contains(known, m) || (perMetric > 0 && len(known) >= perMetric) {
			return
		}
		found[name] = append(known, m)
	}
	for _, targets := range a.o.Targets.TargetsActive() {
		for _, t := range targets {
			for _, m := range t.ListMetadata() {
				add(m.MetricFamily, metadata.Metadata{Type: m.Type, Unit: m.Unit, Help: m.Help})
			}
		}
	}
	for name, m := range a.o.Described {
		add(name, m)
	}
	if limit >= 0 && len(found) > limit {
		for _, name := range slices.Sorted(maps.Keys(found))[limit:] {
			delete(found, name)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	answer := struct {
		Status string                         `json:"status"`
		Data   map[string][]metadata.Metadata `json:"data"`
	}{"success", found}
	if err := json.NewEncoder(w).Encode(answer); err != nil {
		a.o.Log.Debug("write metadata answer", "err", err)
	}
}

// limitParam reads a numeric parameter; -1 when it is absent.
func limitParam(req *http.Request, name string) (int, error) {
	text := req.FormValue(name)
	if text == "" {
		return -1, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("%s must be a number", name)
	}
	return n, nil
}
