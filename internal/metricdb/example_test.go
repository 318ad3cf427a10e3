// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/keep"
	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/wire"
)

// How a role joins the store with its neighbours. Whatever appends or keeps ends before the store
// does: two contexts, ended in that order.
//
//	scrape.NewManager(…, nil, db.Appendable("scrape"), registry)          AppendableV2
//	rules.ManagerOptions{Appendable: db.Appendable("rule"), Queryable: db.Queryable(),
//	                     QueryFunc: rules.EngineQueryFunc(db.Engine(), db.Queryable())}
//	receive.Options{Appendable: db.Appendable("remote_write")}
//	v1.NewAPI(db.Engine(), db.Queryable(), nil, nil, db.Exemplars(), …, db.Admin(), dir, …)
//	db.SetScrapeManager(manager)           metadata for remote write
//	db.Apply(prometheusConfig, settings)   once at start and at each reload
func Example() {
	dir, err := os.MkdirTemp("", "metricdb")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	log, registry := slog.New(slog.DiscardHandler), prometheus.NewRegistry()

	db, err := metricdb.Open(metricdb.Options{Dir: dir, Log: log, Registry: registry, MinFree: 1 << 20})
	if err != nil {
		fmt.Println(err)
		return
	}
	kept, err := keep.New(keep.Options{Store: db.KeepStore(), Log: log, Registry: registry})
	if err != nil {
		fmt.Println(err)
		return
	}
	storeCtx, stopStore := context.WithCancel(context.Background())
	defer stopStore()
	keepCtx, stopKeep := context.WithCancel(storeCtx)
	defer stopKeep()
	storeDone, keepDone := make(chan error), make(chan error)
	go func() { storeDone <- db.Run(storeCtx) }()
	go func() { keepDone <- kept.Run(keepCtx) }()

	l := labels.FromStrings("__name__", "learning_job_round", "job_name", "helmet")
	now := time.Now()
	kept.Set("helmet", now, nil, []wire.Sample{{Labels: l, Time: now.UnixMilli(), Value: 3}})
	stopKeep()
	fmt.Println(<-keepDone)

	q, err := db.Engine().NewInstantQuery(context.Background(), db.Queryable(), nil, "learning_job_round", time.Now())
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := q.Exec(context.Background()).Vector()
	fmt.Println(v[0].Metric, v[0].F, err)
	q.Close()

	stopStore()
	fmt.Println(<-storeDone)
	// Output:
	// <nil>
	// {__name__="learning_job_round", job_name="helmet"} 3 <nil>
	// <nil>
}
