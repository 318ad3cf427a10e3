// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import "testing"

func TestMemoryLimitOfAControlGroup(t *testing.T) {
	for text, want := range map[string]int64{
		"max\n":                 0,
		"1073741824\n":          1073741824 / 10 * 9,
		"9223372036854771712\n": 0,
		"":                      0,
		"-1":                    0,
	} {
		if got := memoryLimit(text); got != want {
			t.Errorf("memoryLimit(%q) = %d, want %d", text, got, want)
		}
	}
}
