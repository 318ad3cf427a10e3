// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// The tests here build the program and use it as a person would: real processes, real sockets, real data
// where the data set is installed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

// running is a launcher that a test started.
type running struct {
	t      *testing.T
	binary string
	dir    string
	sd     string
	cmd    *exec.Cmd
	stderr *bytes.Buffer
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	tmp, err := os.MkdirTemp("", "fleet") // not t.TempDir: its path is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	r := &running{t: t, binary: filepath.Join(tmp, "fleet"), dir: filepath.Join(tmp, "group"), sd: filepath.Join(tmp, "sd.json"), stderr: new(bytes.Buffer)}
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", r.binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	r.cmd = exec.Command(r.binary, append([]string{"--dir", r.dir, "--sd", r.sd, "--log-dir", filepath.Join(tmp, "logs")}, args...)...)
	r.cmd.Stderr = r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return r
}

// stop ends the launcher with Ctrl-C and checks that nobody is left.
func (r *running) stop() {
	if r.cmd.ProcessState != nil {
		return
	}
	members, _ := roster.Dir(r.dir).Members()
	_ = r.cmd.Process.Signal(os.Interrupt)
	if err := r.cmd.Wait(); err != nil {
		r.t.Errorf("launcher: %v\n%s", err, r.stderr)
	}
	for _, m := range members {
		if !gone(m.PID) {
			r.t.Errorf("%s (pid %d) is still there", m.Peer, m.PID)
		}
	}
	if got := r.targets(); len(got) != 0 {
		r.t.Errorf("targets after the end: %v", got)
	}
	if r.t.Failed() {
		r.t.Logf("launcher's log:\n%s", r.stderr)
	}
}

// targets reads the file-discovery list: peer to address.
func (r *running) targets() map[string]string {
	body, err := os.ReadFile(r.sd)
	if err != nil {
		return nil
	}
	var list []struct {
		Targets []string
		Labels  map[string]string
	}
	if err := json.Unmarshal(body, &list); err != nil {
		r.t.Errorf("half a list in %s: %v", r.sd, err)
	}
	out := map[string]string{}
	for _, l := range list {
		if len(l.Targets) != 1 || l.Labels["node"] == "" || l.Labels["location"] == "" || l.Labels["group"] == "" {
			r.t.Errorf("target without its labels: %+v", l)
		}
		out[l.Labels["peer"]] = l.Targets[0]
	}
	return out
}

func (r *running) member(name string) roster.Member {
	r.t.Helper()
	members, _ := roster.Dir(r.dir).Members()
	for _, m := range members {
		if m.Peer == name {
			return m
		}
	}
	r.t.Fatalf("%s is no member", name)
	return roster.Member{}
}

func (r *running) command(args ...string) string {
	r.t.Helper()
	out, err := exec.CommandContext(r.t.Context(), r.binary, args...).CombinedOutput()
	if err != nil {
		r.t.Fatalf("fleet %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// python is how many of a fleet's peers a test makes Python: none in a short run, which needs no Debian package.
func python(n int) string {
	if testing.Short() {
		return "0"
	}
	return strconv.Itoa(n)
}

// language is that of a peer which is Python in a full run.
func language() string {
	if testing.Short() {
		return "go"
	}
	return "python"
}

func (r *running) eventually(what string, is func() bool) {
	r.t.Helper()
	ticks := time.NewTicker(100 * time.Millisecond)
	defer ticks.Stop()
	deadline := time.After(45 * time.Second)
	for !is() {
		select {
		case <-ticks.C:
		case <-deadline:
			r.t.Fatalf("not within 45 s: %s; targets %v\n%s", what, r.targets(), r.stderr)
		}
	}
}

// lint reports what promtool check metrics would say about a peer's exposition.
func lint(t *testing.T, address string) {
	t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	problems, err := promlint.New(resp.Body).Lint()
	if err != nil {
		t.Errorf("%s: %v", address, err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s: %s", address, p.Metric, p.Text)
	}
}

// value reads one series of a peer; series is its name with the label that follows peer, if any.
func value(address, name, label string) float64 {
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return -1
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return -1
	}
	m := regexp.MustCompile(`(?m)^` + name + `\{[^}]*` + label + `[^}]*\} (\S+)$`).FindSubmatch(body)
	if m == nil {
		return -1
	}
	v, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		return -1
	}
	return v
}

func testAccuracy(address string) float64 {
	return value(address, "learning_peer_accuracy", `split="test"`)
}

func (r *running) allAbove(peers int, want float64) func() bool {
	return func() bool {
		targets := r.targets()
		for _, address := range targets {
			if testAccuracy(address) < want {
				return false
			}
		}
		return len(targets) == peers
	}
}

func TestGoAndPythonPeersLearnFromOneAnother(t *testing.T) {
	r := start(t, "--peers", "2", "--python", python(1), "--spare", "0", "--speed", "8")
	r.eventually("both accuracies above 0.5", r.allAbove(2, 0.5))
	targets := r.targets()
	for _, name := range []string{"peer-1", "peer-2"} {
		lint(t, targets[name])
		for _, series := range []string{"learning_peer_models_received_total", "learning_peer_models_published_total"} {
			r.eventually(name+" "+series, func() bool { return value(targets[name], series, "") >= 5 })
		}
		for _, reason := range []string{"malformed", "checksum", "version", "values", "shape"} {
			if got := value(targets[name], "learning_peer_models_refused_total", `reason="`+reason+`"`); got != 0 {
				t.Errorf("%s refused %v models of the other for %s", name, got, reason)
			}
		}
	}
	if r.member("peer-1").Language != "go" || r.member("peer-2").Language != language() {
		t.Error("not one of each language")
	}
}

func TestFleetLearnsAndSurvivesAKill(t *testing.T) {
	r := start(t, "--peers", "4", "--python", python(1), "--speed", "10", "--forget", "2s")
	r.eventually("four accuracies above 0.5", r.allAbove(4, 0.5))

	victim := r.member("peer-2")
	if err := syscall.Kill(victim.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if _, listed := r.targets()["peer-2"]; !listed {
		t.Error("the killed peer is off the list before its target could be seen down")
	}
	r.eventually("the killed peer is off the list", func() bool { _, listed := r.targets()["peer-2"]; return !listed })
	before := map[string]float64{}
	for name, address := range r.targets() {
		before[name] = value(address, "learning_peer_round", "")
	}
	r.eventually("the others go on", func() bool {
		for name, address := range r.targets() {
			if value(address, "learning_peer_round", "") < before[name]+3 {
				return false
			}
		}
		return len(before) == 3
	})
}

func TestPeersJoinLeaveAndHang(t *testing.T) {
	r := start(t, "--peers", "2", "--python", "0", "--spare", "2", "--speed", "10", "--forget", "2s")
	r.eventually("two peers in round 5", func() bool {
		targets := r.targets()
		return len(targets) == 2 && value(targets["peer-1"], "learning_peer_round", "") >= 5
	})

	if got := strings.TrimSpace(r.command("add", "--dir", r.dir, "--language", language())); got != "peer-3" {
		t.Errorf("add: got %q", got)
	}
	r.eventually("peer-3 joined", func() bool { _, listed := r.targets()["peer-3"]; return listed })
	guest := exec.Command(r.binary, "peer", "--join", r.dir, "--name", "guest")
	if err := guest.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = guest.Process.Kill() }()
	r.eventually("both joined and began where the others are", func() bool {
		targets := r.targets()
		return len(targets) == 4 && value(targets["guest"], "learning_peer_round", "") > 5 && testAccuracy(targets["guest"]) > 0.3
	})
	if got := r.command("list", "--dir", r.dir); strings.Count(got, "\n") != 5 || !strings.Contains(got, "guest") {
		t.Errorf("list:\n%s", got)
	}
	if a, b := r.member("guest").Part, r.member("peer-3").Part; a == b || a < 2 || b < 2 {
		t.Errorf("parts of those who joined: %d and %d", a, b)
	}

	hung := r.member("peer-1")
	if err := syscall.Kill(hung.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	r.eventually("the hung peer is off the list", func() bool { _, listed := r.targets()["peer-1"]; return !listed })
	if err := syscall.Kill(hung.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	r.eventually("it comes back", func() bool { _, listed := r.targets()["peer-1"]; return listed })

	if err := guest.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := guest.Wait(); err != nil {
		t.Errorf("guest: %v", err)
	}
	r.command("remove", "--dir", r.dir, "peer-3")
	r.eventually("both left", func() bool { return len(r.targets()) == 2 })
}

// gone tells whether a process has ended. An orphan that nobody has waited for yet has.
func gone(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

func TestKilledLauncherLeavesNobodyBehind(t *testing.T) {
	r := start(t, "--peers", "2", "--python", python(1), "--speed", "5")
	r.eventually("two peers", func() bool { return len(r.targets()) == 2 })
	pids := []int{r.member("peer-1").PID, r.member("peer-2").PID}
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = r.cmd.Wait() // killed
	r.eventually("the peers are gone", func() bool {
		return gone(pids[0]) && gone(pids[1])
	})
}

func TestDeadPeersAreStartedAgain(t *testing.T) {
	r := start(t, "--peers", "2", "--python", "0", "--speed", "5", "--restart", "200ms")
	r.eventually("two peers", func() bool { return len(r.targets()) == 2 })
	pid := r.member("peer-1").PID
	r.command("remove", "--dir", r.dir, "--kill", "peer-1")
	r.eventually("a new peer-1", func() bool {
		members, _ := roster.Dir(r.dir).Members()
		return len(members) == 2 && members[0].PID != pid && r.targets()["peer-1"] == members[0].Address
	})
}

func TestChurnTakesPeersAwayAndBringsThemBack(t *testing.T) {
	r := start(t, "--peers", "3", "--python", "0", "--speed", "5", "--churn", "1s", "--forget", "1s")
	back := func() int {
		log, _ := os.ReadFile(filepath.Join(filepath.Dir(r.dir), "logs", "fleet.log"))
		return bytes.Count(log, []byte("peer started again"))
	}
	r.eventually("three came back", func() bool { return back() >= 3 })
	r.eventually("there are three", func() bool { return len(r.targets()) == 3 })
}

func TestWrongUseIsAnError(t *testing.T) {
	for _, args := range [][]string{
		{"fly"},
		{"--peers", "0"},
		{"--peers", "2", "--python", "1", "--interpreter", "/bin/false"},
		{"--nonsense"},
		{"list", "--dir", "/nowhere"},
		{"remove"},
		{"peer", "--join", "/nowhere"},
		{"peer", "extra"},
	} {
		var out bytes.Buffer
		args := append([]string{}, args...)
		if strings.HasPrefix(args[0], "--peers") {
			args = append(args, "--dir", t.TempDir())
		}
		if err := run(t.Context(), args, &out, &out); err == nil {
			t.Errorf("fleet %v: no error; printed %s", args, fmt.Sprint(&out))
		}
	}
}
