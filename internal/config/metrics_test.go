// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/periplus-io/periplus/internal/config"
)

func TestMetricsTellOfRefusedLoads(t *testing.T) {
	reg := prometheus.NewRegistry()
	m := config.NewMetrics(reg)
	m.Loaded(nil, time.Unix(100, 0))
	m.Loaded(config.Faults{{File: "a"}, {File: "b"}}, time.Unix(200, 0))
	want := `
# HELP periplus_config_applied_timestamp_seconds When the configuration in use was applied, in Unix time.
# TYPE periplus_config_applied_timestamp_seconds gauge
periplus_config_applied_timestamp_seconds 100
# HELP periplus_config_faults Faults that the last load found; 0 when it was applied.
# TYPE periplus_config_faults gauge
periplus_config_faults 2
# HELP periplus_config_last_load_successful Whether the last load was applied. If not, the configuration before it is in use.
# TYPE periplus_config_last_load_successful gauge
periplus_config_last_load_successful 0
# HELP periplus_config_loads_total Loads of the configuration at start and reload, by result: applied, or refused.
# TYPE periplus_config_loads_total counter
periplus_config_loads_total{result="applied"} 1
periplus_config_loads_total{result="refused"} 1
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}
