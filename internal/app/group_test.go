// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/periplus-io/periplus/internal/app"
)

func TestGroupStopsTheLastAddedFirst(t *testing.T) {
	var order []string
	g := app.Group{Log: slog.New(slog.DiscardHandler), Patience: time.Second}
	for _, name := range []string{"store", "writer", "server"} {
		g.Add(name, func(ctx context.Context) error {
			<-ctx.Done()
			order = append(order, name)
			return ctx.Err()
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if want := []string{"server", "writer", "store"}; !slices.Equal(order, want) {
		t.Errorf("got %v, want %v", order, want)
	}
}

func TestGroupEndsWithTheFirstRoomThatFails(t *testing.T) {
	broken := errors.New("no space left")
	g := app.Group{Log: slog.New(slog.DiscardHandler), Patience: time.Second}
	g.Add("store", func(context.Context) error { return broken })
	g.Add("server", func(ctx context.Context) error { <-ctx.Done(); return nil })
	err := g.Run(t.Context())
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "store: ") {
		t.Errorf("got %v", err)
	}
}

func TestGroupDoesNotWaitForEverForAStuckRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		g := app.Group{Log: slog.New(slog.DiscardHandler), Patience: 5 * time.Second}
		g.Add("stuck", func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		err := g.Run(ctx)
		if err == nil || time.Since(start) != 5*time.Second {
			t.Errorf("got %v after %v", err, time.Since(start))
		}
		close(release)
	})
}
