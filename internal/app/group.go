// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package app holds what the roles share. Each role is a package below this one: a straight function
// that makes rooms, joins them and runs them in a [Group].
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Group runs the rooms of a role. They start together; when the context ends or the first of them
// returns, they are stopped one by one, the last added first, so that a room outlives those that
// were built on it. A Group runs once.
type Group struct {
	// Log tells which room does not end in time.
	Log *slog.Logger
	// Patience is how long a room may take to end before the next is stopped all the same.
	Patience time.Duration

	members []member
}

type member struct {
	name   string
	run    func(context.Context) error
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// Add puts a room on the stack. Run blocks until its context ends; an earlier return stops the group.
func (g *Group) Add(name string, run func(context.Context) error) {
	g.members = append(g.members, member{name: name, run: run, done: make(chan struct{})})
}

// Run starts every room and waits for all of them. The error is that of the rooms, nil when they
// ended because ctx did.
func (g *Group) Run(ctx context.Context) error {
	ended := make(chan struct{})
	var once sync.Once
	for i := range g.members {
		m := &g.members[i]
		// Not derived from ctx: the rooms end in order, not at once.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		m.cancel = cancel
		go func() {
			defer once.Do(func() { close(ended) })
			defer close(m.done)
			if err := m.run(own); err != nil && !errors.Is(err, context.Canceled) {
				m.err = fmt.Errorf("%s: %w", m.name, err)
			}
		}()
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	return g.stop()
}

func (g *Group) stop() error {
	var errs []error
	for i := len(g.members) - 1; i >= 0; i-- {
		m := &g.members[i]
		m.cancel()
		select {
		case <-m.done:
			errs = append(errs, m.err)
		case <-time.After(g.Patience):
			g.Log.Warn("room does not end", "room", m.name, "patience", g.Patience)
			errs = append(errs, fmt.Errorf("%s: did not end within %v", m.name, g.Patience))
		}
	}
	return errors.Join(errs...)
}
