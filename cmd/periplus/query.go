// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/prometheus/client_golang/api"
	prom "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"
)

// queryFlags are the flags of query.
type queryFlags struct {
	url         address
	output, at  string
	since, step time.Duration
	timeout     time.Duration
}

func newQuery() *cobra.Command {
	var f queryFlags
	cmd := &cobra.Command{
		Use:   "query EXPRESSION",
		Short: "Ask a hub a PromQL question",
		Example: `  periplus query 'learning_peer_accuracy{split="test"}'
  periplus query --since 10m 'avg(learning_peer_accuracy)'`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), f.timeout)
			defer cancel()
			return query(ctx, cmd.OutOrStdout(), cmd.ErrOrStderr(), args[0], f)
		},
	}
	urlFlag(cmd, &f.url)
	cmd.Flags().StringVarP(&f.output, "output", "o", "table", "table or json")
	cmd.Flags().StringVar(&f.at, "time", "", "evaluate at this time (RFC 3339 or Unix seconds) instead of now")
	cmd.Flags().DurationVar(&f.since, "since", 0, "evaluate over this long up to --time instead of at one time")
	cmd.Flags().DurationVar(&f.step, "step", 0, "distance of the steps of --since; by default a twentieth of it")
	cmd.Flags().DurationVar(&f.timeout, "timeout", time.Minute, "give up after this")
	return cmd
}

func query(ctx context.Context, out, errOut io.Writer, expression string, f queryFlags) error {
	if f.output != "table" && f.output != "json" {
		return fmt.Errorf("output %q: use table or json", f.output)
	}
	if f.since < 0 || f.step < 0 {
		return errors.New("since and step must not be negative")
	}
	at, err := parseTime(f.at, time.Now())
	if err != nil {
		return err
	}
	client, err := api.NewClient(api.Config{Address: string(f.url)})
	if err != nil {
		return fmt.Errorf("address %q: %w", f.url, err)
	}
	var value model.Value
	var warnings prom.Warnings
	if f.since > 0 {
		step := f.step
		if step == 0 {
			step = max(f.since/20, time.Second)
		}
		value, warnings, err = prom.NewAPI(client).QueryRange(ctx, expression, prom.Range{Start: at.Add(-f.since), End: at, Step: step})
	} else {
		value, warnings, err = prom.NewAPI(client).Query(ctx, expression, at)
	}
	if err != nil {
		return asked(f.url, err)
	}
	for _, w := range warnings {
		_, _ = fmt.Fprintln(errOut, "warning:", w)
	}
	if f.output == "json" {
		return json.NewEncoder(out).Encode(map[string]any{"resultType": value.Type(), "result": value})
	}
	return printValue(out, value)
}

// parseTime reads RFC 3339 or Unix seconds; empty means fallback.
func parseTime(s string, fallback time.Time) (time.Time, error) {
	if s == "" {
		return fallback, nil
	}
	if seconds, err := strconv.ParseFloat(s, 64); err == nil {
		return time.UnixMilli(int64(seconds * 1000)), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("time %q: use RFC 3339 or Unix seconds", s)
	}
	return t, nil
}

func printValue(out io.Writer, value model.Value) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	switch v := value.(type) {
	case model.Vector:
		if len(v) == 0 {
			_, _ = fmt.Fprintln(w, "no series")
		}
		for _, s := range v {
			if s.Histogram != nil {
				_, _ = fmt.Fprintf(w, "%s\t%s\n", s.Metric, s.Histogram)
				continue
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\n", s.Metric, s.Value)
		}
	case model.Matrix:
		if len(v) == 0 {
			_, _ = fmt.Fprintln(w, "no series")
		}
		for _, s := range v {
			_, _ = fmt.Fprintln(w, s.Metric)
			for _, p := range s.Values {
				_, _ = fmt.Fprintf(w, "  %s\t%s\n", p.Timestamp.Time().UTC().Format(time.RFC3339), p.Value)
			}
			for _, p := range s.Histograms {
				_, _ = fmt.Fprintf(w, "  %s\t%s\n", p.Timestamp.Time().UTC().Format(time.RFC3339), p.Histogram)
			}
		}
	default:
		_, _ = fmt.Fprintln(w, value)
	}
	return w.Flush()
}
