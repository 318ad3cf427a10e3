// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package hub_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/periplus-io/periplus/internal/learning"
)

// story is a job whose list of conditions grows.
type story struct {
	name       string
	conditions []string
}

// way is the way of a job through a round.
var way = [...][2]string{
	{"Train", "Waiting"},
	{"Train", "Ready"},
	{"Train", "Starting"},
	{"Train", "Running"},
	{"Train", "Completed"},
	{"Eval", "Waiting"},
	{"Eval", "Ready"},
	{"Eval", "Running"},
	{"Eval", "Completed"},
	{"Deploy", "Waiting"},
	{"Deploy", "Ready"},
	{"Deploy", "Completed"},
}

// goOn adds the next condition at a time.
func (s *story) goOn(at time.Time) {
	step := way[len(s.conditions)%len(way)]
	s.conditions = append(s.conditions, fmt.Sprintf(`{"stage":%q,"type":%q,"status":"True","lastTransitionTime":%q}`,
		step[0], step[1], at.UTC().Format(time.RFC3339)))
}

func (s *story) manifest() string {
	return fmt.Sprintf(`{"apiVersion":"sedna.io/v1alpha1","kind":"LifelongLearningJob",
"metadata":{"name":%q,"namespace":"story","uid":"uid-%s","creationTimestamp":"2026-01-01T00:00:00Z"},
"spec":{"dataset":{"name":"d"}},"status":{"conditions":[%s]}}`, s.name, s.name, strings.Join(s.conditions, ",\n"))
}

// told is what a hub says of the stories: spans and counters, and which condition each stage is in at the end of every
// second.
func told(p *process, stories []story, from, to time.Time) (facts []string, seconds []map[string]string, err error) {
	for i := range stories {
		d, err := p.learning().Job(p.t.Context(), "story", "LifelongLearningJob", stories[i].name, "")
		if err != nil {
			return nil, nil, err
		}
		for _, s := range d.Spans {
			facts = append(facts, fmt.Sprintf("%s: %d %s %s %s", stories[i].name, s.Round, s.Stage, s.Condition, s.Start.UTC().Format(time.RFC3339Nano)))
		}
	}
	counters, err := p.query(`{__name__=~"learning_job_(stage_transitions_total|round|conditions|stage_duration_seconds)"}`, present)
	if err != nil {
		return nil, nil, err
	}
	for _, series := range slices.Sorted(maps.Keys(counters)) {
		facts = append(facts, fmt.Sprint(series, counters[series]))
	}
	for at := from.Truncate(time.Second).Add(990 * time.Millisecond); at.Before(to); at = at.Add(time.Second) {
		in := map[string]string{}
		for _, c := range []string{"Waiting", "Ready", "Starting", "Running", "Completed"} {
			got, err := p.query(fmt.Sprintf(`sum by (job_name, stage) (learning_job_stage_condition{condition=%q} == 1)`, c), at)
			if err != nil {
				return nil, nil, err
			}
			for stage := range got {
				in[stage] += c
			}
		}
		seconds = append(seconds, in)
	}
	return facts, seconds, nil
}

// entered gives, by second after from, the conditions that each stage came into within it.
func entered(p *process, stories []story, from time.Time) (map[int]map[string][]string, error) {
	seconds := map[int]map[string][]string{}
	for i := range stories {
		d, err := p.learning().Job(p.t.Context(), "story", "LifelongLearningJob", stories[i].name, "")
		if err != nil {
			return nil, err
		}
		for _, s := range d.Spans {
			n := int(s.Start.Sub(from.Truncate(time.Second)) / time.Second)
			if seconds[n] == nil {
				seconds[n] = map[string][]string{}
			}
			stage := fmt.Sprintf("{job_name=%q, stage=%q}", stories[i].name, s.Stage)
			seconds[n][stage] = append(seconds[n][stage], string(s.Condition))
		}
	}
	return seconds, nil
}

// compare fails on any difference but one: that a change is seen a second late, because the hub that was killed
// had written a state before it in the same second, at a time after the change's own.
func compare(got, want *process, stories []story, from, to time.Time) error {
	wantFacts, wantSeconds, err := told(want, stories, from, to)
	if err != nil {
		return err
	}
	gotFacts, gotSeconds, err := told(got, stories, from, to)
	if err != nil {
		return err
	}
	if diff := cmp.Diff(wantFacts, gotFacts); diff != "" {
		return fmt.Errorf("spans and counters (-want +got):\n%s", diff)
	}
	moved, err := entered(want, stories, from)
	if err != nil {
		return err
	}
	for i, in := range wantSeconds {
		if len(gotSeconds[i]) > len(in) {
			return fmt.Errorf("second %d: got %v, want %v", i, gotSeconds[i], in)
		}
		for stage, condition := range in {
			g := gotSeconds[i][stage]
			late := i > 0 && g == wantSeconds[i-1][stage] || slices.Contains(moved[i][stage], g)
			if g != condition && !late {
				return fmt.Errorf("second %d: %s is %q, want %q", i, stage, g, condition)
			}
		}
	}
	return nil
}

// TestKillsLeaveTheHistoryOfAHubThatNeverDied kills a hub twenty times while jobs go on.
func TestKillsLeaveTheHistoryOfAHubThatNeverDied(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	steady := start(t, "up", "--manifests", dir, "--data-dir", t.TempDir())
	stories := []story{{name: "a"}, {name: "b"}, {name: "c"}}
	random := rand.New(rand.NewPCG(1, 2))
	from := time.Now()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	next := func() {
		for time.Now().Nanosecond() > 600_000_000 { // so that a change is there within its second
			<-tick.C
		}
		s := &stories[random.IntN(len(stories))]
		s.goOn(time.Now())
		writeFile(t, filepath.Join(dir, s.name+".json"), s.manifest())
	}
	for range 20 {
		victim := start(t, "up", "--manifests", dir, "--data-dir", data)
		end := time.After(time.Duration(random.Int64N(int64(2 * time.Second))))
		for killed := false; !killed; {
			select {
			case <-tick.C:
				next()
			case <-end:
				victim.stop(syscall.SIGKILL)
				killed = true
			}
		}
		for range 3 {
			next() // while it is away
		}
	}
	to := time.Now()
	victim := start(t, "up", "--manifests", dir, "--data-dir", data)
	victim.eventually("the history of the hub that never died", func() error { return compare(victim, steady, stories, from, to) })
	if n := strings.Count(victim.output()+steady.output(), "level=ERROR"); n > 0 {
		t.Errorf("%d errors in the log", n)
	}
}

// small is a hub with its data on a disk of 320 MiB of its own, which is gone with it; disk is the way in.
func small(t *testing.T, args ...string) (hub *process, disk string) {
	t.Helper()
	mount := t.TempDir()
	script := `mount -t tmpfs -o size=320m none "$0" && exec "$@"`
	args = append([]string{"-c", script, mount, filepath.Join(binaries, "periplus")}, args...)
	cmd := exec.Command("/bin/sh", append(args, "--listen", "127.0.0.1:0", "--data-dir", mount+"/data")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	hub = launch(t, cmd)
	return hub, fmt.Sprintf("/proc/%d/root%s", hub.cmd.Process.Pid, mount)
}

func TestAFullDisk(t *testing.T) {
	dir := t.TempDir()
	begin := time.Now().Add(-20 * 24 * time.Hour).Truncate(time.Second) // older than the out-of-order window: into blocks
	tell := func(name string) {
		s := story{name: name}
		for i := range way {
			s.goOn(begin.Add(time.Duration(i) * time.Hour))
		}
		writeFile(t, filepath.Join(dir, name+".json"), s.manifest())
	}
	// Jobs of that age are told by their transitions, which hold for as long as a query looks back.
	middle := begin.Add(3*time.Hour + time.Minute)
	running := func(name string) string {
		return fmt.Sprintf(`learning_job_stage_condition{job_name=%q,stage="Train",condition="Running"}`, name)
	}
	tell("before")
	hub, disk := small(t, "up", "--manifests", dir)
	hub.want(running("before"), middle, 1)
	if err := push(hub.url, "pushed", 1, time.Now()); err != nil {
		t.Fatal(err)
	}

	ballast, err := os.Create(disk + "/ballast")
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 1<<20); err == nil; {
		_, err = ballast.Write(block)
	}
	if err := ballast.Close(); err != nil {
		t.Fatal(err)
	}

	// It says so, in the log, in its metrics, in the status and to those who push.
	hub.eventually("log line", func() error {
		if !strings.Contains(hub.output(), `level=ERROR msg="disk is full, samples are refused"`) {
			return fmt.Errorf("log is\n%s", hub.output())
		}
		return nil
	})
	hub.eventually("status", func() error {
		s, err := hub.learning().Status(t.Context())
		if err == nil && !slices.ContainsFunc(s.Faults, func(f string) bool { return strings.Contains(f, "disk is full") }) {
			err = fmt.Errorf("got %+v", s)
		}
		return err
	})
	if err := push(hub.url, "pushed", 2, time.Now()); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("a push got %v", err)
	}

	// It answers, of what comes now too, and holds what it cannot write.
	tell("during")
	hub.want(running("before"), middle, 1)
	hub.eventually("the new job", func() error {
		page, err := hub.learning().Jobs(t.Context(), learning.JobQuery{})
		if err == nil && page.Total != 2 {
			err = fmt.Errorf("got %d jobs", page.Total)
		}
		return err
	})

	// It recovers by itself and forgets nothing.
	if err := os.Remove(disk + "/ballast"); err != nil {
		t.Fatal(err)
	}
	hub.eventually("push", func() error { return push(hub.url, "pushed", 3, time.Now()) })
	hub.want(running("during"), middle, 1)
	hub.want(`learning_job_round{job_name="during"}`, present, 1)
	hub.want(`max_over_time(StageConditionStatus{job_name="during",stage="Train",condition="Running"}[1h])`, middle, 1)
	s, err := hub.learning().Status(t.Context())
	if err != nil || len(s.Faults) > 0 {
		t.Errorf("faults are %v, %v", s.Faults, err)
	}
}
