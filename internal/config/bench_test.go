// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/periplus-io/periplus/internal/config"
)

func manyJobs(n int, faulty func(i int) bool) []byte {
	var b strings.Builder
	b.WriteString("scrape_configs:\n")
	for i := range n {
		regex := "a(.*)b"
		if faulty(i) {
			regex = "a(.*b"
		}
		fmt.Fprintf(&b, `  - job_name: job-%d
    scrape_interval: 15s
    static_configs: [{targets: ["h-%d:9100"]}]
    relabel_configs:
      - {source_labels: [x], target_label: y, replacement: z}
      - {source_labels: [a, b], regex: %q, target_label: c, replacement: "${1}"}
`, i, i, regex)
	}
	return []byte(b.String())
}

// TestFaultsOfALargeFileAreFoundInTime: finding lines must not take minutes.
func TestFaultsOfALargeFileAreFoundInTime(t *testing.T) {
	o, _, _ := options("large.yaml")
	start := time.Now()
	_, err := config.Parse("large.yaml", manyJobs(300, func(i int) bool { return i%100 == 99 }), o)
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) != 3 || faults[0].Line != 1+100*6 {
		t.Errorf("got %v, want three faults, the first in line %d", err, 1+100*6)
	}
	took := time.Since(start)
	t.Logf("took %s", took)
	if took > 30*time.Second {
		t.Errorf("took %s", took)
	}
}

func BenchmarkLoadThousandJobs(b *testing.B) {
	text := manyJobs(1000, func(int) bool { return false })
	o, _, _ := options("large.yaml")
	for b.Loop() {
		if _, err := config.Parse("large.yaml", text, o); err != nil {
			b.Fatal(err)
		}
	}
}
