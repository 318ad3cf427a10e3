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
	"github.com/prometheus/client_golang/prometheus/promauto"
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

	outcome atomic.Pointer[outcome]
}

// outcome is how the last reload went, and when a configuration was last put in force.
type outcome struct {
	success bool
	last    time.Time
}

func newReloader(o Options, reg prometheus.Registerer, first *settings) *reloader {
	r := &reloader{options: o, log: o.Log.With("room", "hub")}
	r.outcome.Store(&outcome{success: true, last: time.Now()})
	factory := promauto.With(reg)
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "periplus_hub_config_last_reload_successful", Help: "Whether the last reload was put in force, 1 or 0.",
	}, func() float64 {
		if success, _ := r.state(); !success {
			return 0
		}
		return 1
	})
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "periplus_hub_config_last_reload_success_timestamp_seconds", Help: "Unix time of the last configuration put in force.",
	}, func() float64 {
		_, last := r.state()
		return float64(last.UnixMilli()) / 1000
	})
	r.current.Store(first)
	return r
}

// start puts the first configuration in force.
func (r *reloader) start() error {
	for _, s := range r.steps {
		if err := s.apply(r.current.Load()); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
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
	if err != nil {
		r.outcome.Store(&outcome{last: r.outcome.Load().last})
		r.log.Error("configuration not reloaded, the previous one is in force", "err", err)
		return err
	}
	r.outcome.Store(&outcome{success: true, last: time.Now()})
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
