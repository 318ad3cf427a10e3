// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package metricdb_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/periplus-io/periplus/internal/metricdb"
	"github.com/periplus-io/periplus/internal/wire"
)

// TestFullDisk makes the disk as good as full by setting the reserve just below what is free and
// taking that bit with a file.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	free := int64(st.Bavail) * int64(st.Bsize) //nolint:unconvert // the types of the fields differ between platforms
	margin := min(free/4, 256<<20)
	d := open(t, dir, func(o *metricdb.Options) { o.MinFree = free - margin })
	k, _ := keeper(t, d, time.Second)
	start := time.Now()
	put := func(name string) error {
		app := d.Appendable("scrape").Appender(t.Context())
		_, err := app.Append(0, named(name), start.UnixMilli(), 1)
		return errors.Join(err, app.Commit())
	}
	if err := put("before"); err != nil {
		t.Fatal(err)
	}
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Fallocate(int(ballast.Fd()), 0, 0, 2*margin); err != nil {
		t.Fatal(err)
	}
	eventually(t, "full disk", func() bool { return d.Status().Full })
	if err := put("during"); !errors.Is(err, metricdb.ErrDiskFull) {
		t.Errorf("append to a full disk: %v", err)
	}
	k.Set("job", start, nil, []wire.Sample{stage("Train", start, 1)})
	if err := k.History(t.Context(), []wire.Sample{stage("Train", start.Add(-20*24*time.Hour), 1)}); !errors.Is(err, metricdb.ErrDiskFull) || !temporary(err) {
		t.Errorf("back-fill to a full disk: %v", err)
	}
	if got := d.value(t, "before", start); got != "1" {
		t.Errorf("read from a full disk: %s", got)
	}
	if got := d.counter(t, "periplus_metricdb_samples_refused_total", "disk_full", "scrape"); got != 1 {
		t.Errorf("counted %g", got)
	}
	if err := errors.Join(ballast.Close(), os.Remove(ballast.Name())); err != nil {
		t.Fatal(err)
	}
	eventually(t, "recovery", func() bool { return put("after") == nil })
	eventually(t, "the held sample", func() bool { return d.value(t, "learning_job_stage", start) == "1" })
	if got := d.value(t, "after", start); got != "1" {
		t.Errorf("after the disk had space: %s", got)
	}
}
