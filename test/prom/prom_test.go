// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package prom_test holds the hub's Prometheus side against real counterparts: Debian's Prometheus and
// Alertmanager, promtool built from the module, the Go API client and the OpenTelemetry exporter.
package prom_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/api"
	promv1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"
)

// eventually polls f until it returns nil or patience ends.
func eventually(t *testing.T, patience time.Duration, f func() error) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("after %s: %v", patience, err)
		case <-tick.C:
		}
	}
}

// debian returns the path of a program that a Debian package brings.
func debian(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is missing: apt-get install %s", name, name)
	}
	return path
}

// promtool builds promtool once and returns its path.
func promtool(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "../tools/build.sh").Output()
	if err != nil {
		t.Fatal("build promtool:", err)
	}
	return filepath.Join(strings.TrimSpace(string(out)), "promtool")
}

// runTool runs a program to its end and returns what it printed.
func runTool(t *testing.T, path string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// freeAddress returns a loopback address that nobody listens on now.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// start runs a server until the test ends and waits until its readiness URL answers 200.
func start(t *testing.T, ready, path string, args ...string) {
	t.Helper()
	var output bytes.Buffer
	cmd := exec.Command(path, args...) // ended by the clean-up, which waits
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		stop := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer stop.Stop()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(path), output.String())
		}
	})
	eventually(t, time.Minute, func() error {
		status, text, err := get(t, ready)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("%d %s", status, text)
		}
		return err
	})
}

// prometheus runs Debian's Prometheus with a configuration, in which SELF is its own address, and returns its URL.
func prometheus(t *testing.T, configuration string, args ...string) string {
	t.Helper()
	path := debian(t, "prometheus")
	dir, address := t.TempDir(), freeAddress(t)
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(configuration, "SELF", address)), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"--config.file=" + file, "--storage.tsdb.path=" + filepath.Join(dir, "data"), "--web.listen-address=" + address}, args...)
	start(t, "http://"+address+"/-/ready", path, args...)
	return "http://" + address
}

func get(t *testing.T, url string) (int, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// client is the official API client on a server.
func client(t *testing.T, url string) promv1.API {
	t.Helper()
	c, err := api.NewClient(api.Config{Address: url})
	if err != nil {
		t.Fatal(err)
	}
	return promv1.NewAPI(c)
}

// instant evaluates an expression now and returns the result as text.
func instant(t *testing.T, url, expr string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	v, _, err := client(t, url).Query(ctx, expr, time.Now())
	if err != nil {
		return "", err
	}
	return v.String(), nil
}

// present is a poll condition: the expression selects something.
func present(t *testing.T, url, expr string) func() error {
	return func() error {
		v, err := instant(t, url, expr)
		if err == nil && v == "" {
			err = fmt.Errorf("%s is empty at %s", expr, url)
		}
		return err
	}
}

// value is a poll condition: the expression is one number, the wanted one.
func value(t *testing.T, url, expr string, want float64) func() error {
	return func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		v, _, err := client(t, url).Query(ctx, expr, time.Now())
		if err != nil {
			return err
		}
		vector, ok := v.(model.Vector)
		if !ok || len(vector) != 1 || float64(vector[0].Value) != want {
			return fmt.Errorf("%s is %q at %s, want %v", expr, v, url, want)
		}
		return nil
	}
}

func mustContain(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("%q lacks %q", text, want)
		}
	}
}
