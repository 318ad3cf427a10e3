// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/api"
	prom "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/tools/clientcmd"
)

// latency changes one job's knowledge base at a time and asks for the changed series until the
// answer has the new value. The clock runs from before the API server is asked to the end of the first right
// answer, so it includes the API server's own time and half a polling interval.
func latency(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("latency", flag.ExitOnError)
	kubeconfig := f.String("kubeconfig", "", "kubeconfig file of a test API server that has Sedna's CRDs")
	namespace := f.String("namespace", "default", "namespace of the jobs")
	url := f.String("url", "http://127.0.0.1:8420", "address with Prometheus' query API")
	series := f.String("series", `sedna_lifelong_unseen_samples{name=%q}`, "series that shows numberOfUnseenSample; %q is the job's name")
	jobs := f.Int("jobs", 10, "jobs to change in turn; cr made them")
	updates := f.Int("updates", 200, "updates to time")
	limit := f.Duration("max-time", 5*time.Minute, "give up after this")
	_ = f.Parse(args)
	cfg, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return err
	}
	l, err := newCRLoad(cfg, *namespace, 1)
	if err != nil {
		return err
	}
	client, err := api.NewClient(api.Config{Address: *url})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	var times []time.Duration
	for n := range *updates {
		// setStatus writes the round as numberOfUnseenSample, so each update has a value of its own.
		i, round := n%*jobs, 1000+n
		start := time.Now()
		if err := l.setStatus(ctx, i, round); err != nil {
			return err
		}
		if err := await(ctx, prom.NewAPI(client), fmt.Sprintf(*series, jobName(i)), float64(round)); err != nil {
			return err
		}
		times = append(times, time.Since(start))
	}
	times = sorted(times)
	fmt.Printf("%d updates, visible after: median %.1f ms, p95 %.1f ms, p99 %.1f ms, max %.1f ms\n", len(times),
		ms(quantile(times, 0.5)), ms(quantile(times, 0.95)), ms(quantile(times, 0.99)), ms(times[len(times)-1]))
	return nil
}

// await asks every 5 ms until the expression has the value.
func await(ctx context.Context, client prom.API, expression string, want float64) error {
	for {
		value, _, err := client.Query(ctx, expression, time.Now())
		if v, ok := value.(model.Vector); ok && len(v) == 1 && float64(v[0].Value) == want {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not %v: %w", expression, want, errors.Join(err, ctx.Err()))
		case <-time.After(5 * time.Millisecond):
		}
	}
}
