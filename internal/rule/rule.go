// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package rule evaluates recording and alerting rules over the hub's store, and notifies Alertmanagers.
//
//	rule files ─ Apply ─> groups ─ evaluate ─> samples (recorded series, ALERTS, ALERTS_FOR_STATE) ─> store
//	                                  └─> alerts ─ relabel, queue ─> every discovered Alertmanager
//
// A reload is all or nothing: every file is read and checked before the first group changes, and a fault
// leaves the rules that run as they are. The clock of a pending alert is in the store (ALERTS_FOR_STATE) and
// goes on after a restart, if the hub was away for less than the configured tolerance.
//
// Where the Alertmanagers are is found by another room: the target groups that arrive on [Options.Targets] have
// the keys that Prometheus' own configuration gives its Alertmanager sections (AlertmanagerConfigs.ToMap).
package rule

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"github.com/periplus-io/periplus/internal/ops"
)

// Options are what [New] needs. Log, Engine, Queryable, Appendable and ExternalURL are required.
type Options struct {
	Log      *slog.Logger
	Registry prometheus.Registerer
	Engine   promql.QueryEngine
	Parser   parser.Parser
	// Queryable is what expressions are evaluated on.
	Queryable storage.Queryable
	// Appendable takes recorded series and the state of alerts.
	Appendable storage.Appendable
	// ExternalURL is where people reach the hub: the generator URL of alerts.
	ExternalURL *url.URL
	// Targets delivers the discovered Alertmanagers by section. Nil means none ever.
	Targets <-chan map[string][]*targetgroup.Group
	// Limits are the settings that do not reload.
	Limits Config
}

// Config are the settings of evaluation and notification.
type Config struct {
	// OutageTolerance is how long the hub may be away so that pending alerts go on where they were.
	OutageTolerance time.Duration `yaml:"for_outage_tolerance"`
	// GracePeriod is the least time between a restored alert and its firing, for `for` longer than it.
	GracePeriod time.Duration `yaml:"for_grace_period"`
	// ResendDelay is the least time between two notifications of the same alert.
	ResendDelay time.Duration `yaml:"resend_delay"`
	// Concurrency is how many independent rules may be evaluated at a time beside their groups.
	Concurrency int64 `yaml:"concurrency"`
	// Queue is the number of alerts that wait for one Alertmanager; older ones are dropped and counted.
	Queue int `yaml:"queue"`
	// Drain is whether waiting alerts are still sent at shutdown.
	Drain bool `yaml:"drain_on_shutdown"`
}

// DefaultConfig has Prometheus' defaults.
func DefaultConfig() Config {
	return Config{
		OutageTolerance: time.Hour,
		GracePeriod:     10 * time.Minute,
		ResendDelay:     time.Minute,
		Concurrency:     4,
		Queue:           10_000,
		Drain:           true,
	}
}

// Validate says which setting is unusable.
func (c Config) Validate() error {
	switch {
	case c.OutageTolerance < 0:
		return fmt.Errorf("for_outage_tolerance must not be negative, got %s", c.OutageTolerance)
	case c.GracePeriod < 0:
		return fmt.Errorf("for_grace_period must not be negative, got %s", c.GracePeriod)
	case c.ResendDelay <= 0:
		return fmt.Errorf("resend_delay must be positive, got %s", c.ResendDelay)
	case c.Concurrency <= 0:
		return fmt.Errorf("concurrency must be positive, got %d", c.Concurrency)
	case c.Queue <= 0:
		return fmt.Errorf("queue must be positive, got %d", c.Queue)
	}
	return nil
}

// Ruler evaluates rules. Its methods are safe for concurrent use.
type Ruler struct {
	log      *slog.Logger
	options  Options
	external string
	metrics  *metrics
	rules    *rules.Manager
	notifier *notifier.Manager
	cancel   context.CancelFunc

	offset atomic.Int64 // rule_query_offset, nanoseconds

	mu sync.Mutex // one Apply at a time
}

// New checks the options and makes an idle ruler: call Apply with the first configuration, then Run.
func New(o Options) (*Ruler, error) {
	if o.Log == nil || o.Engine == nil || o.Queryable == nil || o.Appendable == nil || o.ExternalURL == nil {
		return nil, errors.New("rule: Log, Engine, Queryable, Appendable and ExternalURL are required")
	}
	if err := o.Limits.Validate(); err != nil {
		return nil, fmt.Errorf("rule: %w", err)
	}
	if o.Parser == nil {
		o.Parser = parser.NewParser(parser.Options{})
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Ruler{log: o.Log, options: o, external: o.ExternalURL.String(), metrics: newMetrics(o.Registry), cancel: cancel}
	r.notifier = newNotifier(o)
	r.rules = r.newManager(ctx)
	return r, nil
}

// newNotifier and newManager are the adapters to Prometheus' constructors.
func newNotifier(o Options) *notifier.Manager {
	return notifier.NewManager(&notifier.Options{
		QueueCapacity:   o.Limits.Queue,
		DrainOnShutdown: o.Limits.Drain,
		MaxBatchSize:    notifier.DefaultMaxBatchSize,
		Registerer:      o.Registry,
	}, model.UTF8Validation, ops.Quiet(o.Log))
}

func (r *Ruler) newManager(ctx context.Context) *rules.Manager {
	o := r.options
	send := rules.SendAlerts(r.notifier, r.external)
	return rules.NewManager(&rules.ManagerOptions{
		NameValidationScheme: model.UTF8Validation,
		ExternalURL:          o.ExternalURL,
		QueryFunc:            rules.EngineQueryFunc(o.Engine, o.Queryable),
		NotifyFunc: func(ctx context.Context, expr string, alerts ...*rules.Alert) {
			r.metrics.alerts.Add(float64(len(alerts)))
			send(ctx, expr, alerts...)
		},
		Context:                ctx,
		Appendable:             o.Appendable,
		Queryable:              o.Queryable,
		Logger:                 ops.Quiet(o.Log),
		Registerer:             o.Registry,
		OutageTolerance:        o.Limits.OutageTolerance,
		ForGracePeriod:         o.Limits.GracePeriod,
		ResendDelay:            o.Limits.ResendDelay,
		MaxConcurrentEvals:     o.Limits.Concurrency,
		ConcurrentEvalsEnabled: o.Limits.Concurrency > 1,
		DefaultRuleQueryOffset: r.queryOffset,
		Parser:                 o.Parser,
	})
}

func (r *Ruler) queryOffset() time.Duration {
	return time.Duration(r.offset.Load())
}

const stopPatience = 5 * time.Second

// Run evaluates rules and sends alerts until ctx ends. Without an Apply before it there are no rules.
func (r *Ruler) Run(ctx context.Context) error {
	targets := r.options.Targets
	if targets == nil {
		none := make(chan map[string][]*targetgroup.Group)
		defer close(none)
		targets = none
	}
	var running sync.WaitGroup
	running.Go(func() { r.notifier.Run(targets) })
	running.Go(r.rules.Run)
	<-ctx.Done()
	// Rules first: the notifier must be there while the last evaluation ends. One that takes long is cut off.
	defer time.AfterFunc(stopPatience, r.cancel).Stop()
	r.rules.Stop()
	r.cancel()
	r.notifier.Stop()
	running.Wait()
	return nil
}

// RuleGroups returns the groups that run, rules and their state included.
func (r *Ruler) RuleGroups() []*rules.Group { return r.rules.RuleGroups() }

// AlertingRules returns the alerting rules of all groups.
func (r *Ruler) AlertingRules() []*rules.AlertingRule { return r.rules.AlertingRules() }

// Alertmanagers returns where alerts are sent.
func (r *Ruler) Alertmanagers() []*url.URL { return r.notifier.Alertmanagers() }

// DroppedAlertmanagers returns those that relabelling dropped.
func (r *Ruler) DroppedAlertmanagers() []*url.URL { return r.notifier.DroppedAlertmanagers() }
