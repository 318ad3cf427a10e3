// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/periplus-io/periplus/internal/resource"
)

func decodeObject(t testing.TB, data []byte) resource.Object {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	o, _ := numbers(v).(map[string]any)
	return o
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for k, el := range v {
			v[k] = numbers(el)
		}
	case []any:
		for i, el := range v {
			v[i] = numbers(el)
		}
	}
	return v
}
