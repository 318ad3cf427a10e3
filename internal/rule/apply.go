// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
)

// load parses rule files as a manager of its own that never runs, and counts the rules.
func load(cfg *config.Config, p parser.Parser, files []string) (int, error) {
	m := rules.NewManager(&rules.ManagerOptions{
		NameValidationScheme: model.UTF8Validation,
		Context:              context.Background(),
		Logger:               slog.New(slog.DiscardHandler),
		Parser:               p,
	})
	groups, errs := m.LoadGroups(time.Duration(cfg.GlobalConfig.EvaluationInterval), cfg.GlobalConfig.ExternalLabels, "", nil, false, files...)
	if len(errs) > 0 {
		return 0, fmt.Errorf("load rules: %w", errors.Join(errs...))
	}
	count := 0
	for _, g := range groups {
		count += len(g.Rules())
	}
	return count, nil
}

// Apply makes a configuration's rules, external labels and Alertmanagers the present ones. On an error
// nothing has changed.
func (r *Ruler) Apply(cfg *config.Config) error {
	err := r.apply(cfg)
	if err != nil {
		r.metrics.reloads.WithLabelValues("failed").Inc()
		return err
	}
	r.metrics.reloads.WithLabelValues("ok").Inc()
	return nil
}

func (r *Ruler) apply(cfg *config.Config) error {
	files, err := ruleFiles(cfg)
	if err != nil {
		return err
	}
	count, err := load(cfg, r.options.Parser, files)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.notifier.ApplyConfig(cfg); err != nil {
		return fmt.Errorf("apply alerting: %w", err)
	}
	r.offset.Store(int64(cfg.GlobalConfig.RuleQueryOffset))
	err = r.rules.Update(time.Duration(cfg.GlobalConfig.EvaluationInterval), files, cfg.GlobalConfig.ExternalLabels, r.external, nil)
	if err != nil {
		return fmt.Errorf("apply rules: %w", err)
	}
	r.metrics.rules.Set(float64(count))
	r.log.Info("rules loaded", "files", len(files), "rules", count)
	return nil
}

// ruleFiles resolves the patterns of rule_files to files, sorted, each once.
func ruleFiles(cfg *config.Config) ([]string, error) {
	var (
		files []string
		errs  []error
	)
	for _, pattern := range cfg.RuleFiles {
		found, err := filepath.Glob(pattern)
		if err != nil {
			errs = append(errs, fmt.Errorf("rule_files %q: %w", pattern, err))
			continue
		}
		if len(found) == 0 && !hasMeta(pattern) {
			if _, err := os.Stat(pattern); err != nil {
				errs = append(errs, fmt.Errorf("rule_files: %w", err))
			} else {
				errs = append(errs, fmt.Errorf("rule_files %q: %w", pattern, fs.ErrNotExist))
			}
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	return slices.Compact(files), errors.Join(errs...)
}

func hasMeta(pattern string) bool {
	for _, c := range pattern {
		switch c {
		case '*', '?', '[', '\\':
			return true
		}
	}
	return false
}
