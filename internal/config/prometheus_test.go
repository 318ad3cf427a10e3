// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	promconfig "github.com/prometheus/prometheus/config"
	_ "github.com/prometheus/prometheus/discovery/dns"  // dns_sd_configs
	_ "github.com/prometheus/prometheus/discovery/http" // http_sd_configs

	"github.com/periplus-io/periplus/internal/config"
)

// TestPrometheusOwnFilesMeanTheSame loads the files that Prometheus is tested with: whatever of its syntax there
// is comes through the tree unchanged, and what Prometheus refuses, we refuse.
func TestPrometheusOwnFilesMeanTheSame(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/prometheus/prometheus").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "config", "testdata", "*.yml"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	same, refused := 0, 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		want, refusal := promconfig.Load(string(b), log)
		o := config.Options{Log: log, Getenv: func(name string) (string, bool) { return os.Getenv(name), true }}
		got, err := config.Parse(file, b, o)
		switch {
		case refusal != nil && err == nil:
			t.Errorf("%s: got no fault, Prometheus says %v", filepath.Base(file), refusal)
		case refusal != nil:
			refused++
		case err != nil: // We look at files that it does not look at.
			if s := err.Error(); !strings.Contains(s, "no such file") && !strings.Contains(s, "does not exist") && !strings.Contains(file, "scrape_config_files") {
				t.Errorf("%s: got %v, Prometheus takes it", filepath.Base(file), err)
			}
		case len(want.ScrapeConfigFiles) == 0:
			want.SetDirectory(filepath.Dir(file))
			if diff := cmp.Diff(want.String(), got.Prometheus.String()); diff != "" {
				t.Errorf("%s (-want +got)\n%s", filepath.Base(file), diff)
			}
			same++
		}
	}
	if same < 40 || refused < 100 {
		t.Errorf("got %d files with the same meaning and %d refused by both: too few to say anything", same, refused)
	}
}
