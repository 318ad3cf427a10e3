// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"fmt"
	"strings"
	"time"

	pmodel "github.com/prometheus/common/model"
)

// Duration is a time span as Prometheus writes it, such as 90d.
type Duration time.Duration

// UnmarshalText reads 1h30m, 90d and the like.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := pmodel.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// MarshalText writes what UnmarshalText reads.
func (d Duration) MarshalText() ([]byte, error) { return []byte(pmodel.Duration(d).String()), nil }

// selector is a list of conditions on labels that must all hold. The empty selector matches nothing.
type selector []struct {
	key, value string
	any        bool
}

func parseSelector(text string) (selector, error) {
	var s selector
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	for part := range strings.SplitSeq(text, ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		value = strings.TrimPrefix(value, "=")
		if key == "" || strings.ContainsAny(key, "! ()") {
			return nil, fmt.Errorf("%q is neither key nor key=value", part)
		}
		s = append(s, struct {
			key, value string
			any        bool
		}{key, value, !ok})
	}
	return s, nil
}

func (s selector) matches(labels map[string]any) bool {
	for _, c := range s {
		v, ok := labels[c.key].(string)
		if !ok || (!c.any && v != c.value) {
			return false
		}
	}
	return len(s) > 0
}
