// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"log/slog"
	"slices"
)

// Quiet gives a logger for a library: what it says in the ordinary course, at info, is for debugging here, and so
// are warnings with one of the expected messages. The rest goes to log as it is.
func Quiet(log *slog.Logger, expected ...string) *slog.Logger {
	return slog.New(quiet{log.Handler(), expected})
}

type quiet struct {
	slog.Handler

	expected []string
}

// Enabled implements slog.Handler.
func (h quiet) Enabled(ctx context.Context, l slog.Level) bool {
	if l < slog.LevelWarn {
		l = min(l, slog.LevelDebug)
	}
	return h.Handler.Enabled(ctx, l)
}

// Handle implements slog.Handler.
func (h quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < slog.LevelWarn || slices.Contains(h.expected, r.Message) {
		r.Level = min(r.Level, slog.LevelDebug)
		if !h.Handler.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quiet{h.Handler.WithAttrs(attrs), h.expected}
}

// WithGroup implements slog.Handler.
func (h quiet) WithGroup(name string) slog.Handler {
	return quiet{h.Handler.WithGroup(name), h.expected}
}
