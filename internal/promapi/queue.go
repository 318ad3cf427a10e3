// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package promapi

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/stats"
)

// queuedEngine bounds the wait for one of the engine's places and makes its end a query timeout (503). The
// engine alone lets a query wait for as long as its client does, and then calls that a bad query.
type queuedEngine struct {
	promql.QueryEngine

	wait time.Duration
}

// NewInstantQuery implements promql.QueryEngine.
func (e queuedEngine) NewInstantQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, ts time.Time) (promql.Query, error) {
	ctx, cancel := context.WithTimeout(ctx, e.wait)
	defer cancel()
	return admit(e.QueryEngine.NewInstantQuery(ctx, q, opts, qs, ts))
}

// NewRangeQuery implements promql.QueryEngine.
func (e queuedEngine) NewRangeQuery(ctx context.Context, q storage.Queryable, opts promql.QueryOpts, qs string, start, end time.Time, interval time.Duration) (promql.Query, error) {
	ctx, cancel := context.WithTimeout(ctx, e.wait)
	defer cancel()
	return admit(e.QueryEngine.NewRangeQuery(ctx, q, opts, qs, start, end, interval))
}

// admit wraps what the engine made of a query.
func admit(q promql.Query, err error) (promql.Query, error) {
	if errors.Is(err, context.DeadlineExceeded) {
		return refusedQuery{promql.ErrQueryTimeout("query queue")}, nil
	}
	if err != nil {
		return nil, err //nolint:wrapcheck // the API shows the engine's words
	}
	return queuedQuery{q}, nil
}

// queuedQuery may have to wait once more when it is executed.
type queuedQuery struct{ promql.Query }

// Exec implements promql.Query.
func (q queuedQuery) Exec(ctx context.Context) *promql.Result {
	result := q.Query.Exec(ctx)
	if errors.Is(result.Err, context.DeadlineExceeded) {
		result.Err = promql.ErrQueryTimeout("query queue")
	}
	return result
}

// refusedQuery never got a place.
type refusedQuery struct{ err error }

// Exec implements promql.Query; so do the others.
func (q refusedQuery) Exec(context.Context) *promql.Result { return &promql.Result{Err: q.err} }
func (refusedQuery) Close()                                {}
func (refusedQuery) Cancel()                               {}
func (refusedQuery) Statement() parser.Statement           { return nil }
func (refusedQuery) Stats() *stats.Statistics              { return nil }
func (q refusedQuery) String() string                      { return fmt.Sprint(q.err) }
