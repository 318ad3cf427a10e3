// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Command periplus is the whole product in one binary: each role and each tool is a subcommand. It
// turns signals into a context and an error into an exit status; everything else is in internal/app.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run()) //nolint:forbidigo // the one place that ends the process
}

// run executes the command line and gives the exit status.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal ends a shutdown that hangs.
	context.AfterFunc(ctx, stop)
	if err := newRoot().ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "periplus:", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "periplus",
		Short: "Observability for machine learning that runs in many places at once",
		Long: `Periplus watches lifelong, incremental and federated learning jobs on cloud and
edge nodes, and fleets of decentralised peers. It keeps their metrics and the
exact history of their stages, and answers PromQL.

Start with:  periplus up`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newUp(), newHub(), newCheck(), newJobs(), newQuery(), newVersion())
	return root
}

// defaultListen is where a hub listens and where the tools look for one.
const defaultListen = "127.0.0.1:8420"

// address is the hub that a tool asks.
type address string

// String, Set and Type implement pflag.Value.
func (a *address) String() string { return string(*a) }

// Type names the kind of value in the help.
func (*address) Type() string { return "URL" }

// Set takes an address with or without a scheme.
func (a *address) Set(s string) error {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return errors.New("use HOST:PORT or http://HOST:PORT")
	}
	*a = address(strings.TrimSuffix(s, "/"))
	return nil
}

// urlFlag adds --url. A bad PERIPLUS_URL is told when it is used.
func urlFlag(cmd *cobra.Command, to *address) {
	*to = "http://" + defaultListen
	if s := os.Getenv("PERIPLUS_URL"); s != "" {
		if to.Set(s) != nil {
			*to = address(s)
		}
	}
	cmd.Flags().Var(to, "url", "the hub's address; PERIPLUS_URL sets the default")
}

// asked puts in words why the hub at a did not answer.
func asked(a address, err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("no hub answers at %s: start one with periplus up, or say where it is with --url", a)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the hub at %s did not answer in time", a)
	}
	return fmt.Errorf("ask %s: %w", a, err)
}
