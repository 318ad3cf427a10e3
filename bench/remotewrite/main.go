// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Command remotewrite measures how many samples a second a server takes by remote write, and compares the
// hub with Prometheus on the same requests in the same run.
//
//	go run ./bench/remotewrite -hub http://127.0.0.1:8420 [-prometheus /usr/bin/prometheus] [-v2]
//
// All requests are encoded and compressed before the first is sent. The servers are measured one after the
// other, in turns, so that a neighbour's load on the machine meets both. Every turn writes series of its own.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

type settings struct {
	hub, prometheus            string
	series, rounds, perRequest int
	senders, turns             int
	v2                         bool
}

func main() {
	var s settings
	flag.StringVar(&s.hub, "hub", "", "URL of a running hub; its store should be empty")
	flag.StringVar(&s.prometheus, "prometheus", "/usr/bin/prometheus", "Prometheus to compare with; empty for none")
	flag.IntVar(&s.series, "series", 20_000, "series of a turn")
	flag.IntVar(&s.rounds, "rounds", 50, "samples of a series in a turn")
	flag.IntVar(&s.perRequest, "per-request", 2000, "samples of a request, the default of Prometheus' senders")
	flag.IntVar(&s.senders, "senders", 4, "requests under way at a time")
	flag.IntVar(&s.turns, "turns", 3, "turns of each server; the best counts")
	flag.BoolVar(&s.v2, "v2", false, "send remote write 2.0 to the hub (Prometheus before 3.0 takes 1.0 only and gets that)")
	flag.Parse()
	if err := run(context.Background(), s, log.New(os.Stdout, "", 0)); err != nil {
		fmt.Fprintln(os.Stderr, "remotewrite:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, out *log.Logger) error {
	if s.hub == "" {
		return errors.New("-hub is required")
	}
	hub := server{name: "hub", url: s.hub, v2: s.v2}
	servers := []*server{&hub}
	if s.prometheus != "" {
		url, stop, err := startPrometheus(ctx, s.prometheus)
		if err != nil {
			return fmt.Errorf("start %s: %w", s.prometheus, err)
		}
		defer stop()
		servers = append(servers, &server{name: "prometheus", url: url})
	}
	for turn := range s.turns {
		order := slices.Clone(servers)
		if turn%2 == 1 {
			slices.Reverse(order)
		}
		for _, srv := range order {
			rate, perCPU, err := srv.measure(ctx, s, turn)
			if err != nil {
				return fmt.Errorf("%s: %w", srv.name, err)
			}
			srv.best, srv.bestPerCPU = max(srv.best, rate), max(srv.bestPerCPU, perCPU)
			out.Printf("turn %d  %-10s  %9.0f samples/s  %9.0f samples per CPU second", turn+1, srv.name, rate, perCPU)
		}
	}
	if len(servers) == 2 {
		other := servers[1]
		out.Printf("best  hub %.0f, prometheus %.0f samples/s: ratio %.2f", hub.best, other.best, hub.best/other.best)
		out.Printf("best  hub %.0f, prometheus %.0f samples per CPU second: ratio %.2f", hub.bestPerCPU, other.bestPerCPU, hub.bestPerCPU/other.bestPerCPU)
	}
	return nil
}

// server is one that is measured.
type server struct {
	name, url        string
	v2               bool
	best, bestPerCPU float64
}

// measure sends one turn's samples and returns how many were taken per second and per second of the server's
// processor time, which is what counts on a machine that others use too.
func (srv *server) measure(ctx context.Context, s settings, turn int) (rate, perCPU float64, err error) {
	run := strconv.FormatInt(time.Now().UnixMilli()%1e6, 36) + "-" + strconv.Itoa(turn) // never seen by the server
	waves, err := encode(s, srv.v2, run)
	if err != nil {
		return 0, 0, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: s.senders}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	before, err := cpuSeconds(ctx, client, srv.url)
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	for _, wave := range waves { // a sender keeps the order of a series: one wave after the other
		group, ctx := errgroup.WithContext(ctx)
		group.SetLimit(s.senders)
		for _, body := range wave {
			group.Go(func() error { return post(ctx, client, srv.url, body, srv.v2) })
		}
		if err := group.Wait(); err != nil {
			return 0, 0, err
		}
	}
	took := time.Since(start).Seconds()
	after, err := cpuSeconds(ctx, client, srv.url)
	if err != nil {
		return 0, 0, err
	}
	samples := float64(s.series * s.rounds)
	return samples / took, samples / (after - before), nil
}

// cpuSeconds reads the processor time that a server has used so far from its own metrics.
func cpuSeconds(ctx context.Context, client *http.Client, url string) (float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return 0, fmt.Errorf("make request: %w", err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, fmt.Errorf("read metrics: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if text, found := strings.CutPrefix(lines.Text(), "process_cpu_seconds_total "); found {
			return strconv.ParseFloat(text, 64) //nolint:wrapcheck // names the text
		}
	}
	return 0, fmt.Errorf("%s/metrics has no process_cpu_seconds_total", url)
}

func post(ctx context.Context, client *http.Client, url string, body []byte, v2 bool) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/write", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make request: %w", err)
	}
	req.Header.Set("Content-Encoding", "snappy")
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("X-Prometheus-Remote-Write-Version", "0.1.0")
	if v2 {
		req.Header.Set("Content-Type", "application/x-protobuf;proto=io.prometheus.write.v2.Request")
		req.Header.Set("X-Prometheus-Remote-Write-Version", "2.0.0")
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if err != nil {
		return fmt.Errorf("read answer: %w", err)
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("answer %d: %s", resp.StatusCode, text)
	}
	return nil
}

// startPrometheus runs a Prometheus that takes remote write, on a store of its own, until stop.
func startPrometheus(ctx context.Context, path string) (url string, stop func(), err error) {
	dir, err := os.MkdirTemp("", "remotewrite-")
	if err != nil {
		return "", nil, fmt.Errorf("make folder: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("find a port: %w", err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		return "", nil, fmt.Errorf("free the port: %w", err)
	}
	file := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(file, []byte("global: {}\n"), 0o600); err != nil {
		return "", nil, fmt.Errorf("write configuration: %w", err)
	}
	cmd := exec.CommandContext(ctx, path, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--web.enable-remote-write-receiver", "--log.level=error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("run: %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill() // its data go with it
		_ = cmd.Wait()
		_ = os.RemoveAll(dir)
	}
	url = "http://" + address
	if err := ready(ctx, url+"/-/ready"); err != nil {
		stop()
		return "", nil, err
	}
	return url, stop, nil
}

// ready waits until a URL answers 200.
func ready(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("make request: %w", err)
		}
		client := http.Client{}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", url, ctx.Err())
		}
	}
}

// seriesLabels are those of a series as peers and workers have them: nine labels, about 190 bytes.
func seriesLabels(run string, n int) []string {
	return []string{
		"__name__", "learning_worker_train_loss_" + strconv.Itoa(n%50),
		"cluster", "shore",
		"instance", "10.42." + strconv.Itoa(n/250%250) + "." + strconv.Itoa(n%250) + ":9100",
		"job", "peers",
		"job_kind", "LifelongLearningJob",
		"job_name", "job-" + strconv.Itoa(n/100),
		"namespace", "team-" + strconv.Itoa(n%7),
		"node", "edge-node-" + strconv.Itoa(n/50%400),
		"worker", "worker-" + run + "-" + strconv.Itoa(n) + "-7d9f8b6c5d-x2k4q",
	}
}
