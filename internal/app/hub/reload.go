// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package hub

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/periplus-io/periplus/internal/config"
)

// step is one thing that takes a configuration.
type step struct {
	name  string
	apply func(*settings) error
}

// reloader puts configurations in force: all of one or none of it.
type reloader struct {
	options Options
	log     *slog.Logger
	steps   []step
	current atomic.Pointer[settings]

	mu sync.Mutex

	metrics *config.Metrics
	outcome atomic.Pointer[outcome]
}

// outcome is how the last load went, and when a configuration was last put in force.
type outcome struct {
	success bool
	last    time.Time
}

func newReloader(o Options, reg prometheus.Registerer, first *settings) *reloader {
	r := &reloader{options: o, log: o.Log.With("room", "hub"), metrics: config.NewMetrics(reg)}
	r.current.Store(first)
	return r
}

// loaded records how a load went.
func (r *reloader) loaded(err error) {
	now := time.Now()
	r.metrics.Loaded(err, now)
	next := outcome{success: err == nil, last: now}
	if before := r.outcome.Load(); err != nil && before != nil {
		next.last = before.last
	}
	r.outcome.Store(&next)
}

// start puts the first configuration in force.
func (r *reloader) start() error {
	for _, s := range r.steps {
		if err := s.apply(r.current.Load()); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	r.loaded(nil)
	return nil
}

// state is how the last reload went, and when a configuration was last put in force.
func (r *reloader) state() (success bool, last time.Time) {
	o := r.outcome.Load()
	return o.success, o.last
}

// reload reads the configuration again. On an error what was in force before is in force.
func (r *reloader) reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := r.try()
	r.loaded(err)
	if err != nil {
		r.log.Error("configuration not reloaded, the previous one is in force", "err", err)
		return err
	}
	r.log.Info("configuration reloaded")
	return nil
}

func (r *reloader) try() error {
	next, err := load(r.options)
	if err != nil {
		return err
	}
	before := r.current.Load()
	if names := before.fixed(next); len(names) > 0 {
		r.log.Warn("changed sections that need a restart", "sections", names)
	}
	for i, s := range r.steps {
		err := s.apply(next)
		if err == nil {
			continue
		}
		errs := []error{fmt.Errorf("%s: %w", s.name, err)}
		for j := i; j >= 0; j-- {
			if err := r.steps[j].apply(before); err != nil {
				errs = append(errs, fmt.Errorf("back to the previous configuration: %s: %w", r.steps[j].name, err))
			}
		}
		return errors.Join(errs...)
	}
	r.current.Store(next)
	return nil
}

// run reloads whenever asked until ctx ends.
func (r *reloader) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.options.Reload:
			_ = r.reload() // It has logged and counted what went wrong.
		}
	}
}
