// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"periplus": main})
}

// TestCommandLine runs testdata, which reads like a manual page. In a script $LISTEN is a free address, the tools
// look for a hub there, and ready waits for it.
func TestCommandLine(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			listen, err := freeAddress(t)
			e.Setenv("LISTEN", listen)
			e.Setenv("PERIPLUS_URL", "http://"+listen)
			e.Setenv("TZ", "UTC")
			return err
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": func(ts *testscript.TestScript, _ bool, _ []string) {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				ts.Check(until(ctx, func() bool { return ready(ctx, ts.Getenv("PERIPLUS_URL")) }))
			},
			// date turns every <5h ago> in files into the time that this is.
			"date": func(ts *testscript.TestScript, _ bool, args []string) {
				now := time.Now().UTC().Truncate(time.Second)
				for _, name := range args {
					text := regexp.MustCompile(`<(\w+) ago>`).ReplaceAllStringFunc(ts.ReadFile(name), func(s string) string {
						age, err := time.ParseDuration(strings.TrimSuffix(s[1:], " ago>"))
						ts.Check(err)
						return now.Add(-age).Format(time.RFC3339)
					})
					ts.Check(os.WriteFile(ts.MkAbs(name), []byte(text), 0o600))
				}
				ts.Setenv("NOW", strconv.FormatInt(now.Unix(), 10))
			},
			// eventually repeats a command line until its output has a text.
			"eventually": func(ts *testscript.TestScript, _ bool, args []string) {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				defer cancel()
				want := args[0]
				err := until(ctx, func() bool {
					return ts.Exec(args[1], args[2:]...) == nil && strings.Contains(ts.ReadFile("stdout"), want)
				})
				if err != nil {
					ts.Fatalf("no %q from %v: %v", want, args[1:], err)
				}
			},
		},
	})
}

func freeAddress(t *testing.T) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

func ready(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/-/ready", nil)
	if err != nil {
		return false
	}
	client := http.Client{Timeout: time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// until asks ten times a second.
func until(ctx context.Context, reached func() bool) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !reached() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
