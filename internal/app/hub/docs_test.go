// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/periplus-io/periplus/internal/config"
)

func TestEveryKeyIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	keys := config.Keys(defaults().sections()...)
	if len(keys) < 20 {
		t.Fatalf("got %d keys", len(keys))
	}
	for _, key := range keys {
		if slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, key+".") }) {
			continue // a section, documented by its keys
		}
		if !strings.Contains(string(text), "`"+key+"`") {
			t.Errorf("docs/configuration.md lacks `%s`", key)
		}
	}
}
