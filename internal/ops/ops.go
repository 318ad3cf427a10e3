// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package ops is the floor every role stands on: the logger, the metric registry, readiness and the
// version. It decides how the program reports on itself and nothing about what it does.
package ops

import (
	"runtime"
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build says which program this is.
type Build struct {
	// Version is the release, or "dev" with the revision when built from a checkout.
	Version string `json:"version"`
	// Revision is the commit, with "-dirty" when the checkout was changed; empty when unknown.
	Revision string `json:"revision"`
	// GoVersion is the version of the Go toolchain.
	GoVersion string `json:"goVersion"`
	// Platform is operating system and architecture.
	Platform string `json:"platform"`
}

// version and revision are set by the Makefile through the linker.
var version, revision = "dev", "" //nolint:gochecknoglobals // the linker can only set package variables

// ThisBuild describes the running program.
func ThisBuild() Build {
	b := Build{Version: version, Revision: revision, GoVersion: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if b.Revision != "" {
		return b
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Revision = s.Value
		}
	}
	return b
}

// NewRegistry gives a registry with the Go runtime's, the process' and the build's metrics.
func NewRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	b := ThisBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "periplus_build_info", Help: "The running program, value 1.",
		ConstLabels: prometheus.Labels{"version": b.Version, "revision": b.Revision, "goversion": b.GoVersion},
	})
	info.Set(1)
	reg.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}
