// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/periplus-io/periplus/internal/app/hub"
	"github.com/periplus-io/periplus/internal/ops"
)

// logFlags are how a role logs.
type logFlags struct{ level, format string }

func (f *logFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
	cmd.Flags().StringVar(&f.format, "log-format", "text", "text or json")
}

// hubFlags adds the flags that up and hub share.
func hubFlags(cmd *cobra.Command, o *hub.Options) {
	f := cmd.Flags()
	f.StringVar(&o.Listen, "listen", defaultListen, "address to serve on")
	f.StringVar(&o.DataDir, "data-dir", "periplus-data", "folder for everything that is written")
	f.StringVar(&o.ConfigFile, "config", "", "configuration file")
	f.StringArrayVar(&o.Manifests, "manifests", nil, "folder of YAML and JSON manifests to watch; may be given again")
	f.BoolVar(&o.Profiling, "pprof", false, "serve /debug/pprof")
	f.BoolVar(&o.Admin, "admin", false, "open the API routes that delete and snapshot data")
}

func newUp() *cobra.Command {
	var o hub.Options
	var log logFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run everything on this machine; needs no configuration",
		Long: `up runs everything in one process. Without a configuration it scrapes what
DATA-DIR/peers/*.json and DATA-DIR/ipfs/*.json list (Prometheus' file discovery),
takes what is pushed to it, and watches the manifest folders it is given.`,
		Example: `  periplus up
  periplus up --manifests ./jobs`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runHub(cmd, o, log) },
	}
	hubFlags(cmd, &o)
	log.add(cmd)
	return cmd
}

func newHub() *cobra.Command {
	var o hub.Options
	var log logFlags
	cmd := &cobra.Command{
		Use:   "hub",
		Short: "Run a hub: watch a cluster, take in, keep, evaluate and answer",
		Example: `  periplus hub --kubeconfig ~/.kube/config
  periplus hub --in-cluster --data-dir /var/lib/periplus --listen :8420`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runHub(cmd, o, log) },
	}
	hubFlags(cmd, &o)
	cmd.Flags().StringVar(&o.Kubeconfig, "kubeconfig", "", "file that says how to reach the API server")
	cmd.Flags().StringVar(&o.Context, "context", "", "context of the kubeconfig; by default its current one")
	cmd.Flags().BoolVar(&o.InCluster, "in-cluster", false, "use the service account of the pod this runs in")
	cmd.MarkFlagsMutuallyExclusive("kubeconfig", "in-cluster")
	log.add(cmd)
	return cmd
}

// runHub checks what only the command line can get wrong, then runs the hub. SIGHUP asks for a reload.
func runHub(cmd *cobra.Command, o hub.Options, f logFlags) error {
	log, err := ops.NewLogger(cmd.ErrOrStderr(), f.level, f.format)
	if err != nil {
		return err
	}
	o.Log = log
	if _, err := hub.Check(o); err != nil {
		return err
	}
	o.Reload = hangups(cmd.Context())
	o.Started = func(a net.Addr) {
		_, _ = fmt.Fprintf(cmd.OutOrStdout(), "Periplus listens on http://%s\n", a)
	}
	return hub.Run(cmd.Context(), o)
}

// hangups turns SIGHUP into a channel until ctx ends.
func hangups(ctx context.Context) <-chan struct{} {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	context.AfterFunc(ctx, func() { signal.Stop(signals) })
	asked := make(chan struct{})
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-signals:
			}
			select {
			case <-ctx.Done():
				return
			case asked <- struct{}{}:
			}
		}
	}()
	return asked
}
