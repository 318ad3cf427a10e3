// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package hub_test runs the built binary as its users do: on a real API server, on folders of manifests, with real
// learners, and through kills, restarts and broken files.
package hub_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	prom "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/periplus-io/periplus/internal/learnapi/client"
	"github.com/periplus-io/periplus/test/kube"
)

// binaries holds what the tests run; cluster is shared, each test uses a namespace of its own.
var (
	binaries string
	cluster  *kube.Cluster
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) (code int) {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "hub")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	binaries = dir
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // a cold build included
	defer cancel()
	for folder, pkg := range map[string]string{"../..": "./cmd/periplus", "../../examples/peers": "./cmd/..."} {
		build := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", pkg)
		build.Dir = folder
		if out, err := build.CombinedOutput(); err != nil {
			return fail(fmt.Errorf("build %s: %w\n%s", pkg, err, out))
		}
	}
	scratch := filepath.Join(dir, "cluster")
	if err := os.Mkdir(scratch, 0o755); err != nil {
		return fail(err)
	}
	if cluster, err = kube.Start(ctx, kube.Options{Dir: scratch}); err != nil {
		return fail(err)
	}
	defer func() {
		if err := cluster.Stop(); err != nil {
			code = fail(err)
		}
	}()
	if err := cluster.CreateDefinitions(ctx); err != nil {
		return fail(err)
	}
	return m.Run()
}

// process is a running hub.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	url string

	mu  sync.Mutex
	log bytes.Buffer

	ended chan struct{}
}

// start runs the binary with args on a free port and waits until it is ready. It is stopped with the test.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := exec.Command(filepath.Join(binaries, "periplus"), append(args, "--listen", "127.0.0.1:0")...)
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	return launch(t, cmd)
}

// launch starts a command that becomes a hub, and waits until it is ready.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, ended: make(chan struct{})}
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	p.cmd.Stderr = p
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		_ = p.cmd.Wait()
		t.Fatalf("the hub did not start: %v\n%s", err, p.output())
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("log of the hub:\n%s", p.output())
		}
	})
	p.url = strings.TrimSpace(line[strings.Index(line, "http://"):])
	p.eventually("ready", func() error {
		resp, err := http.Get(p.url + "/-/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != http.StatusOK {
			return errors.New(string(body))
		}
		return nil
	})
	return p
}

// Write takes the hub's log.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// stop ends the hub by a signal and waits for it.
func (p *process) stop(s os.Signal) {
	_ = p.cmd.Process.Signal(s)
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.t.Error("the hub did not end")
		_ = p.cmd.Process.Kill()
		<-p.ended
	}
}

// eventually repeats check until it passes; it fails the test after a minute.
func (p *process) eventually(what string, check func() error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	var last error
	if err := kube.Poll(ctx, func() bool { last = check(); return last == nil }); err != nil {
		p.t.Fatalf("%s: %v", what, last)
	}
}

// query gives the value of every series of an instant answer by its labels.
func (p *process) query(expression string, at time.Time) (map[string]float64, error) {
	c, err := api.NewClient(api.Config{Address: p.url})
	if err != nil {
		return nil, err
	}
	if at.Equal(present) {
		at = time.Now()
	}
	value, _, err := prom.NewAPI(c).Query(p.t.Context(), expression, at)
	if err != nil {
		return nil, err
	}
	found := map[string]float64{}
	vector, ok := value.(model.Vector)
	if !ok {
		return nil, fmt.Errorf("%s gives a %s", expression, value.Type())
	}
	for _, s := range vector {
		found[s.Metric.String()] = float64(s.Value)
	}
	return found, nil
}

// present as a time means the time of each try.
var present time.Time

// want waits until expression has exactly one series, with this value.
func (p *process) want(expression string, at time.Time, value float64) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("%s at %v", expression, at), func() error {
		got, err := p.query(expression, at)
		if err != nil {
			return err
		}
		for _, v := range got {
			if len(got) == 1 && v == value {
				return nil
			}
		}
		return fmt.Errorf("got %v, want %v", got, value)
	})
}

// wantNone waits until expression has no series.
func (p *process) wantNone(expression string) {
	p.t.Helper()
	p.eventually(expression, func() error {
		got, err := p.query(expression, present)
		if err == nil && len(got) > 0 {
			err = fmt.Errorf("got %v, want nothing", got)
		}
		return err
	})
}

func (p *process) learning() *client.Client {
	return &client.Client{Base: p.url, HTTP: &http.Client{Timeout: 10 * time.Second}}
}

// cli runs a tool against the hub and gives its output.
func (p *process) cli(args ...string) string {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), filepath.Join(binaries, "periplus"), args...)
	cmd.Env = append(os.Environ(), "PERIPLUS_URL="+p.url)
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("periplus %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// page fetches text, whatever the status code.
func (p *process) page(path string) string {
	p.t.Helper()
	resp, err := http.Get(p.url + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(body)
}
