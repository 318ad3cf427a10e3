// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package frame_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/periplus-io/periplus/internal/watch/frame"
)

func FuzzFrames(f *testing.F) {
	f.Add([]byte(`{"type":"ADDED","object":{"metadata":{"name":"a","resourceVersion":"7"}}}`+"\n"+`{"a":"\"}"}`), 40)
	f.Fuzz(func(t *testing.T, data []byte, limit int) {
		r := frame.NewReader(strings.NewReader(string(data)), max(limit%1000, 0))
		for {
			raw, err := r.Next()
			if err != nil && !errors.Is(err, frame.ErrTooLarge) {
				return
			}
			if e, err := frame.ParseEvent(raw); err == nil {
				_, _ = frame.Decode(e.Object)
			}
			frame.Peek(raw)
		}
	})
}
