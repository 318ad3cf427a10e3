// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/periplus-io/periplus/internal/resource"
)

// fillJob is an object whose past is to be written.
type fillJob struct {
	table  *table
	object resource.Object
	seen   time.Time
}

// fillQueue holds the objects whose past is to be written: at most one entry for each object that
// exists, so it needs no bound of its own.
type fillQueue struct {
	wake chan struct{}

	mu   sync.Mutex
	jobs []fillJob
}

func (q *fillQueue) add(j fillJob) {
	q.mu.Lock()
	q.jobs = append(q.jobs, j)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *fillQueue) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs)
}

// next waits for a job; false when ctx has ended.
func (q *fillQueue) next(ctx context.Context) (fillJob, bool) {
	for ctx.Err() == nil {
		if j, ok := q.take(); ok {
			return j, true
		}
		select {
		case <-ctx.Done():
		case <-q.wake:
		}
	}
	return fillJob{}, false
}

// take gives a job if there is one.
func (q *fillQueue) take() (fillJob, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 {
		return fillJob{}, false
	}
	j := q.jobs[0]
	q.jobs[0] = fillJob{}
	if q.jobs = q.jobs[1:]; len(q.jobs) == 0 {
		q.jobs = nil
	}
	return j, true
}

// quietLog lets a number of warnings through each minute and says how many it held back: ten
// thousand objects with the same fault are one fault.
type quietLog struct {
	log *slog.Logger

	mu     sync.Mutex
	minute time.Time
	passed int
	held   int
}

const warningsPerMinute = 20

// pass says whether another warning may be logged now.
func (q *quietLog) pass() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if now := time.Now(); now.Sub(q.minute) >= time.Minute {
		if q.held > 0 {
			q.log.Warn("warnings were held back", "count", q.held)
		}
		q.minute, q.passed, q.held = now, 0, 0
	}
	if q.passed >= warningsPerMinute {
		q.held++
		return false
	}
	q.passed++
	return true
}
