// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb_test

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/wire"
)

const childVariable = "PERIPLUS_TEST_APPEND_TO"

func childDir() string { return os.Getenv(childVariable) }

const childSeries = 50

// appendUntilKilled is the child process: it appends rounds of samples, old ones among them, and
// prints the number of each round that was acknowledged.
func appendUntilKilled(dir string) {
	d, err := metricdb.Open(metricdb.Options{Dir: dir, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), MinFree: 1, BackfillDelay: time.Hour})
	if err != nil {
		panic(err)
	}
	app := d.Appendable("remote_write")
	store := d.KeepStore()
	start := time.Now().UnixMilli()
	for round := int64(0); ; round++ {
		a := app.Appender(context.Background())
		for s := range childSeries {
			l := labels.FromStrings("__name__", "live", "s", strconv.Itoa(s))
			if _, err := a.Append(0, l, start-600_000+round, float64(round)); err != nil {
				panic(err)
			}
		}
		if err := a.Commit(); err != nil {
			panic(err)
		}
		old := wire.Sample{Labels: labels.FromStrings("__name__", "old"), Time: start - 20*24*3600*1000 + round, Value: float64(round)}
		if err := store.Backfill(context.Background(), []wire.Sample{old}); err != nil {
			panic(err)
		}
		fmt.Println(round) //nolint:forbidigo // standard output is how the child reports
	}
}

func TestKilledProcessLosesNothingAcknowledged(t *testing.T) {
	dir := t.TempDir()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := -1
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if acknowledged, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(err)
		}
		if acknowledged == 1500 {
			if err := child.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = child.Wait()
	if acknowledged < 1500 {
		t.Fatalf("child ended after round %d", acknowledged)
	}
	d := open(t, dir)
	now := time.Now()
	for _, q := range []string{"min(count_over_time(live[1h]))", "max(count_over_time(live[1h]))"} {
		v := d.query(t, q, now)
		if len(v) != 1 || int(v[0].F) < acknowledged+1 || int(v[0].F) > acknowledged+2 {
			t.Errorf("%s = %v after %d acknowledged rounds", q, v, acknowledged+1)
		}
	}
	if v := d.query(t, "count(live)", now.Add(-595*time.Second)); len(v) != 1 || v[0].F != childSeries {
		t.Errorf("series: %v", v)
	}
	eventually(t, "old samples", func() bool {
		v := d.query(t, "count_over_time(old[1h])", now.Add(-20*24*time.Hour+10*time.Minute))
		return len(v) == 1 && int(v[0].F) >= acknowledged+1
	})
}
