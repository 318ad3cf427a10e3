// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Command load makes work for a hub, or for any program that does the same, and measures it from the
// outside by the protocols it shares with its peers: Kubernetes custom resources, the exposition
// format and Prometheus' query API. Nothing in it knows which product it talks to, so two can be compared
// in one run on one machine.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

type command struct {
	name, about string
	run         func(ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"cluster", "run an API server with Sedna's kinds until interrupted", cluster},
		{"cr", "create and update LifelongLearningJob resources", cr},
		{"latency", "time status updates until they are visible in PromQL", latency},
		{"scrape", "scrape a metrics endpoint and time it", scrape},
		{"usage", "report CPU, memory and disk use of a running process", usage},
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if len(os.Args) > 1 {
		for _, c := range commands() {
			if c.name == os.Args[1] {
				if err := c.run(ctx, os.Args[2:]); err != nil {
					fmt.Fprintf(os.Stderr, "load %s: %v\n", c.name, err)
					os.Exit(1)
				}
				return
			}
		}
	}
	fmt.Fprintln(os.Stderr, "usage: load COMMAND [flags]; load COMMAND -h lists the flags")
	for _, c := range commands() {
		fmt.Fprintf(os.Stderr, "  %-8s %s\n", c.name, c.about)
	}
	os.Exit(2)
}

func writeJSON(path string, v any) error {
	if path == "" {
		return nil
	}
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// quantile of sorted durations, nearest rank.
func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func sorted(d []time.Duration) []time.Duration { return slices.Sorted(slices.Values(d)) }

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
