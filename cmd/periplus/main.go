// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Command periplus is the whole product in one binary: each role and each tool is a subcommand. It
// turns signals into a context and an error into an exit status; everything else is in internal/app.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
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

// urlFlag adds --url, the hub that a tool asks.
func urlFlag(cmd *cobra.Command, url *string) {
	fallback := os.Getenv("PERIPLUS_URL")
	if fallback == "" {
		fallback = "http://" + defaultListen
	}
	cmd.Flags().StringVar(url, "url", fallback, "the hub's address; PERIPLUS_URL sets the default")
}
