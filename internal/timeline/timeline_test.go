// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package timeline_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/timeline"
)

var update = flag.Bool("update", false, "write the golden files anew")

func now() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

func read[T any](t *testing.T, file string) T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var v T
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Error(diff)
	}
}

func TestPicturesMatchTheirFiles(t *testing.T) {
	for _, width := range []int{80, 120} {
		for _, color := range []bool{false, true} {
			o := timeline.Options{Width: width, Color: color, Now: now()}
			suffix := fmt.Sprintf("%d.txt", width)
			if color {
				suffix = fmt.Sprintf("%d.ansi", width)
			}
			var table, job bytes.Buffer
			if err := timeline.Jobs(&table, read[learning.JobPage](t, "jobs.json"), o); err != nil {
				t.Fatal(err)
			}
			golden(t, "jobs."+suffix, table.Bytes())
			if err := timeline.Job(&job, read[learning.JobDetail](t, "job.json"), o); err != nil {
				t.Fatal(err)
			}
			golden(t, "job."+suffix, job.Bytes())
		}
	}
}

func TestNoLineIsWiderThanAsked(t *testing.T) {
	for width := 60; width <= 200; width += 7 {
		var b bytes.Buffer
		o := timeline.Options{Width: width, Now: now()}
		if err := errors.Join(timeline.Jobs(&b, read[learning.JobPage](t, "jobs.json"), o), timeline.Job(&b, read[learning.JobDetail](t, "job.json"), o)); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && width >= 80 {
				t.Errorf("width %d: line of %d: %s", width, n, line)
			}
		}
	}
}

func TestForeignTextCannotDriveTheTerminal(t *testing.T) {
	d := read[learning.JobDetail](t, "job.json")
	d.Message = "evil \x1b[2J\x07\r\nnext \u202eline"
	d.Workers[0].Pod = "pod\x1b]0;title\x07"
	var b bytes.Buffer
	if err := timeline.Job(&b, d, timeline.Options{Now: now()}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(b.String(), "\x1b\x07\r\u202e") {
		t.Errorf("control characters reach the terminal: %q", b.String())
	}
}

// TestAFinishedJobFillsThePicture draws a job that was over long ago.
func TestAFinishedJobFillsThePicture(t *testing.T) {
	begin := now().Add(-100 * 24 * time.Hour)
	end := begin.Add(10 * time.Minute)
	d := learning.JobDetail{
		Job: learning.Job{Name: "done", Stage: learning.Train, Condition: learning.Completed, Since: &end, Completed: &end},
		Spans: []learning.Span{
			{Stage: learning.Train, Condition: learning.Running, Start: begin, End: &end},
			{Stage: learning.Train, Condition: learning.Completed, Start: end},
		},
	}
	var b bytes.Buffer
	if err := timeline.Job(&b, d, timeline.Options{Now: now()}); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "█"); n < 60 {
		t.Errorf("the bar has %d columns:\n%s", n, b.String())
	}
}

func TestEmptyThingsAreSaid(t *testing.T) {
	var b bytes.Buffer
	o := timeline.Options{Now: now()}
	if err := errors.Join(timeline.Jobs(&b, learning.JobPage{}, o), timeline.Job(&b, learning.JobDetail{}, o)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"No jobs match.", "No condition has been seen yet."} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing in %s", want, b.String())
		}
	}
}
