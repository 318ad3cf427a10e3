// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package promapi

import (
	"context"
	"fmt"
	"net/url"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/features"
	"github.com/prometheus/prometheus/util/notifications"
)

// What a hub without the part answers: as a Prometheus that has nothing configured.
type (
	noTargets       struct{}
	noRules         struct{}
	noAlertmanagers struct{}
	noNotifications struct{}
	noExemplars     struct{}
)

func (noTargets) ScrapePools() []string                       { return []string{} }
func (noTargets) TargetsActive() map[string][]*scrape.Target  { return nil }
func (noTargets) TargetsDropped() map[string][]*scrape.Target { return nil }
func (noTargets) TargetsDroppedCounts() map[string]int        { return map[string]int{} }

func (noTargets) ScrapePoolConfig(pool string) (*config.ScrapeConfig, error) {
	return nil, fmt.Errorf("scrape pool %q not found", pool)
}

func (noRules) RuleGroups() []*rules.Group           { return nil }
func (noRules) AlertingRules() []*rules.AlertingRule { return nil }

func (noAlertmanagers) Alertmanagers() []*url.URL        { return nil }
func (noAlertmanagers) DroppedAlertmanagers() []*url.URL { return nil }

func (noNotifications) Get() []notifications.Notification { return []notifications.Notification{} }

func (noNotifications) Sub() (<-chan notifications.Notification, func(), bool) {
	return nil, func() {}, false
}

func (noExemplars) ExemplarQuerier(context.Context) (storage.ExemplarQuerier, error) {
	return noExemplars{}, nil
}

func (noExemplars) Select(int64, int64, ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	return []exemplar.QueryResult{}, nil
}

// describeFeatures tells the features route what this API can do, in Prometheus' words.
func describeFeatures(c features.Collector, admin bool) features.Collector {
	c.Set(features.API, "admin", admin)
	for _, name := range []string{
		"exclude_alerts", "label_values_match", "lifecycle", "openapi_3.1", "openapi_3.2", "otlp_write_receiver", "query_stats",
		"query_warnings", "remote_write_receiver", "search", "time_range_labels", "time_range_series",
	} {
		c.Enable(features.API, name)
	}
	return c
}
