// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec_test

import (
	"math"
	"testing"
	"time"

	"github.com/periplus-io/periplus/internal/state/spec"
)

func TestNumber(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   any
		want float64
	}{
		{int64(7), 7},
		{7, 7},
		{uint64(7), 7},
		{1.5, 1.5},
		{true, 1},
		{false, 0},
		{"True", 1},
		{"YES", 1},
		{"no", 0},
		{"Unknown", 0},
		{"2026-01-02T03:04:05Z", 1767323045},
		{"2026-01-02T04:04:05.999999+01:00", 1767323045},
		{"250m", 0.25},
		{"100m", 0.1},
		{"5m", 0.005},
		{"3n", 3e-9},
		{"3u", 3e-6},
		{"2k", 2000},
		{"2M", 2e6},
		{"2G", 2e9},
		{"2T", 2e12},
		{"2P", 2e15},
		{"2E", 2e18},
		{"1Ki", 1024},
		{"1.5Gi", 1.5 * (1 << 30)},
		{"1Ei", 1 << 60},
		{"-1e3", -1000},
		{"1E3", 1000},
		{"+3", 3},
		{".5", 0.5},
		{"12.5%", 0.125},
		{"-3%", -0.03},
		{"1h30m", 5400},
		{"30s", 30},
		{"5m0s", 300},
		{"0x1p4", 16},
		{"+Inf", math.Inf(1)},
		{time.Unix(5, 0), 5},
		{1500 * time.Millisecond, 1.5},
	} {
		if got, err := spec.Number(tt.in); err != nil || got != tt.want {
			t.Errorf("%v: got %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []any{nil, "", "x", "1 Gi", "5mm", "%", "Ki", "1.2.3", "2026-13-02T03:04:05Z", []any{1}, map[string]any{}, "1e", "1x"} {
		if got, err := spec.Number(in); err == nil {
			t.Errorf("%v is %v", in, got)
		}
	}
}
