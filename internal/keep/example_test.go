// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package keep_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/keep"
	"github.com/periplus-io/periplus/internal/wire"
)

// A role gives keep the store (metricdb's KeepStore) and hands it to the rooms that watch objects.
// It stops them first, then keep, then the store.
func Example() {
	store := newFake()
	k, err := keep.New(keep.Options{Store: store, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- k.Run(ctx) }()

	running := labels.FromStrings("__name__", "learning_job_stage", "job_name", "helmet", "stage", "Train")
	event := time.Now().Add(-time.Second).Truncate(time.Millisecond)
	k.Set("LifelongLearningJob/edge/helmet", event, nil, []wire.Sample{{Labels: running, Time: event.UnixMilli(), Value: 1}})
	k.Remove("LifelongLearningJob/edge/helmet", time.Now())

	stop()
	fmt.Println(<-done)
	for _, s := range store.of(running, event) {
		fmt.Println(s[len(s)-5:])
	}
	// Output:
	// <nil>
	// 000=1
	// stale
}
