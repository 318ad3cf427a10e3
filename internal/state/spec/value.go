// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// errNoNumber is wrapped by every value that has no reading as a number.
var errNoNumber = errors.New("not a number, boolean, quantity, percentage, time or duration")

// Number reads a value of an object as a sample's value: numbers as they are, booleans and the
// texts true/yes/false/no/unknown as 1 and 0, RFC 3339 times as whole Unix seconds, Kubernetes
// quantities, percentages as ratios, Go durations in seconds. A text that is both a quantity and a
// duration ("5m") is a quantity, as kube-state-metrics has it.
func Number(v any) (float64, error) {
	switch v := v.(type) {
	case float64:
		return v, nil
	case int64:
		return float64(v), nil
	case int:
		return float64(v), nil
	case uint64:
		return float64(v), nil
	case bool:
		if v {
			return 1, nil
		}
		return 0, nil
	case string:
		return textNumber(v)
	case time.Time:
		return float64(v.Unix()), nil
	case time.Duration:
		return v.Seconds(), nil
	case nil:
		return 0, fmt.Errorf("nothing there: %w", errNoNumber)
	}
	return 0, fmt.Errorf("%s: %w", shape(v), errNoNumber)
}

func textNumber(s string) (float64, error) {
	if s == "" || len(s) > 64 {
		return 0, fmt.Errorf("text of %d bytes: %w", len(s), errNoNumber)
	}
	switch {
	case strings.EqualFold(s, "true"), strings.EqualFold(s, "yes"):
		return 1, nil
	case strings.EqualFold(s, "false"), strings.EqualFold(s, "no"), strings.EqualFold(s, "unknown"):
		return 0, nil
	}
	if len(s) >= len("2006-01-02T15:04:05Z") && s[4] == '-' {
		if t, err := time.Parse(time.RFC3339, s); err == nil {
			return float64(t.Unix()), nil
		}
	}
	if f, ok := quantity(s); ok {
		return f, nil
	}
	if before, ok := strings.CutSuffix(s, "%"); ok {
		if f, err := strconv.ParseFloat(before, 64); err == nil {
			return f / 100, nil
		}
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return f, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return d.Seconds(), nil
	}
	return 0, fmt.Errorf("%q: %w", s, errNoNumber)
}

// quantity reads a Kubernetes quantity: a decimal number with a decimal SI suffix, a binary one, or
// an exponent.
func quantity(s string) (float64, bool) {
	end := 0
	for end < len(s) && (s[end] >= '0' && s[end] <= '9' || s[end] == '.' || end == 0 && (s[end] == '-' || s[end] == '+')) {
		end++
	}
	f, err := strconv.ParseFloat(s[:end], 64)
	if err != nil {
		return 0, false
	}
	suffix := s[end:]
	switch suffix {
	case "":
		return f, true
	// Dividing keeps 100m at 0.1; multiplying by the inexact 0.001 would not for all numbers.
	case "n":
		return f / 1e9, true
	case "u":
		return f / 1e6, true
	case "m":
		return f / 1e3, true
	case "k":
		return f * 1e3, true
	}
	if power := strings.IndexByte("MGTPE", suffix[0]); power >= 0 && len(suffix) == 1 {
		return f * math.Pow10(6+3*power), true
	}
	if power := strings.IndexByte("KMGTPE", suffix[0]); power >= 0 && suffix[1:] == "i" {
		return math.Ldexp(f, 10*(power+1)), true
	}
	if suffix[0] == 'e' || suffix[0] == 'E' {
		f, err := strconv.ParseFloat(s, 64)
		return f, err == nil
	}
	return 0, false
}

// text gives a value of an object as a label's value, false where there is nothing. Lists and maps
// become JSON.
func text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case nil:
		return "", false
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case int:
		return strconv.Itoa(v), true
	case float64:
		return floatText(v), true
	case time.Time:
		return v.UTC().Format(time.RFC3339), true
	case time.Duration:
		return v.String(), true
	}
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v), true
	}
	return string(b), true
}

// floatText writes whole numbers without an exponent as far as they are exact.
func floatText(f float64) string {
	if f == math.Trunc(f) && math.Abs(f) < 1e15 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// shape names the kind of a value for messages without printing what may be megabytes.
func shape(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return fmt.Sprintf("an object of %d fields", len(v))
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	case string:
		if len(v) > 64 {
			return fmt.Sprintf("a text of %d bytes", len(v))
		}
		return strconv.Quote(v)
	}
	return fmt.Sprintf("%v", v)
}
