// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"time"

	"github.com/periplus-io/periplus/bench/load/internal/proc"
)

// scraped is the outcome of scrape, as written to -out.
type scraped struct {
	URL    string `json:"url"`
	Series int    `json:"series"`
	Bytes  int    `json:"bytes"`
	// Ready is from the start of the process to the end of the first scrape with enough series.
	Ready  float64    `json:"ready_seconds,omitempty"`
	Median float64    `json:"median_ms"`
	P95    float64    `json:"p95_ms"`
	Runs   []float64  `json:"runs_ms"`
	Usage  proc.Usage `json:"server"`
}

func scrape(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("scrape", flag.ExitOnError)
	url := f.String("url", "", "metrics endpoint")
	runs := f.Int("runs", 20, "scrapes to time")
	every := f.Duration("interval", 0, "pause between two scrapes")
	enough := f.Int("min-series", 1, "wait for a scrape with this many series before timing")
	limit := f.Duration("max-time", 5*time.Minute, "give up after this")
	pid := f.Int("pid", 0, "process id of the server, to report what it used")
	out := f.String("out", "", "file for the result as JSON")
	_ = f.Parse(args)
	if *url == "" {
		return errors.New("-url is needed")
	}
	ctx, cancel := context.WithTimeout(ctx, *limit)
	defer cancel()
	r := scraped{URL: *url}
	var buffer bytes.Buffer // used again, as a scraper does
	for {
		body, err := fetch(ctx, *url, &buffer)
		if err == nil && series(body) >= *enough {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d series so far: %w", series(body), *enough, errors.Join(err, ctx.Err()))
		case <-time.After(100 * time.Millisecond):
		}
	}
	if *pid != 0 {
		age, err := proc.Age(*pid)
		if err != nil {
			return err
		}
		r.Ready = age.Seconds()
	}
	w, err := proc.Watch(*pid)
	if err != nil {
		return err
	}
	var times []time.Duration
	for range *runs {
		start := time.Now()
		body, err := fetch(ctx, *url, &buffer)
		if err != nil {
			return err
		}
		took := time.Since(start)
		times = append(times, took)
		r.Runs = append(r.Runs, ms(took))
		r.Series, r.Bytes = series(body), len(body)
		time.Sleep(*every)
	}
	r.Usage = w.Stop()
	times = sorted(times)
	r.Median, r.P95 = ms(quantile(times, 0.5)), ms(quantile(times, 0.95))
	fmt.Printf("%d series, %.1f MB, %d scrapes: median %.1f ms, p95 %.1f ms\n", r.Series, float64(r.Bytes)/1e6, len(times), r.Median, r.P95)
	if *pid != 0 {
		fmt.Printf("full scrape %.2f s after process start (if it was just started); over the run: %v\n", r.Ready, r.Usage)
	}
	return writeJSON(*out, r)
}

// fetch reads an answer into the buffer.
func fetch(ctx context.Context, url string, into *bytes.Buffer) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	// Measure the server's rendering, not gzip: ask for plain text.
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	into.Reset()
	_, err = into.ReadFrom(resp.Body)
	body := into.Bytes()
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %.200s", resp.Status, body)
	}
	return body, err
}

// series counts the lines of an exposition that are neither empty nor comments.
func series(body []byte) int {
	n := 0
	for line := range bytes.Lines(body) {
		if len(line) > 1 && line[0] != '#' {
			n++
		}
	}
	return n
}
