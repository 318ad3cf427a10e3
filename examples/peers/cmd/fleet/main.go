// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Command fleet runs a group of decentralised learners on this machine: eight processes by default, some in
// Go and some in Python, that train on real images, exchange models with one another and export what
// they do as Prometheus metrics. See README.md.
//
//	fleet [flags]                 start a fleet and keep it until Ctrl-C
//	fleet add [--language L]      start one more peer in a running fleet
//	fleet remove [--kill] NAME    let a peer leave, or kill it
//	fleet list                    who is in the fleet
//	fleet peer --join DIR         be one peer of a fleet that runs
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	peers "github.com/periplus-io/periplus/examples/peers"
	"github.com/periplus-io/periplus/examples/peers/internal/fleet"
	"github.com/periplus-io/periplus/examples/peers/internal/peer"
	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

const defaultDir = ".run/fleet"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "fleet:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	command := "run"
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("fleet "+command, flag.ContinueOnError)
	flags.SetOutput(stderr)
	switch command {
	case "run":
		return runFleet(ctx, flags, args, stderr)
	case "peer":
		return runPeer(ctx, flags, args, stderr)
	case "add", "remove", "list":
		return control(ctx, command, flags, args, stdout)
	}
	return fmt.Errorf("unknown command %q: want run, add, remove, list or peer", command)
}

func runFleet(ctx context.Context, flags *flag.FlagSet, args []string, stderr io.Writer) error {
	var o fleet.Options
	dir := flags.String("dir", defaultDir, "folder of the group: settings, parts of the data, lists of peers")
	flags.StringVar(&o.SD, "sd", "", "where to write the Prometheus file-discovery list (default DIR/targets.json)")
	flags.StringVar(&o.LogDir, "log-dir", "", "folder for one log file a peer, and fleet.log (default: everything to stderr)")
	flags.StringVar(&o.Data, "data", "/usr/share/datasets/fashion-mnist", "folder of the IDX files")
	flags.StringVar(&o.Group, "group", "fashion", "name of the group")
	flags.IntVar(&o.Peers, "peers", 8, "number of peers")
	flags.IntVar(&o.Python, "python", 2, "how many of them are Python")
	flags.IntVar(&o.Spare, "spare", 4, "parts of the data kept for peers that join later")
	flags.Uint64Var(&o.Seed, "seed", 1, "seed of the partition, the initial model and the sampling")
	flags.Float64Var(&o.Alpha, "alpha", 0.5, "how alike the parts are: small is very different, large is alike")
	flags.Float64Var(&o.Speed, "speed", 1, "how much faster than one round in 2 s; the share of a core grows with it")
	flags.DurationVar(&o.Forget, "forget", 15*time.Second, "remove a peer that does not answer after this")
	flags.DurationVar(&o.Restart, "restart", 0, "start a peer that died again after this (0: never)")
	flags.DurationVar(&o.Churn, "churn", 0, "this often a random peer is killed or leaves, and comes back (0: never)")
	interpreter := flags.String("interpreter", "", "Python with prometheus_client (default: the first that has it of /usr/bin/python3, python3)")
	if err := parse(flags, args, 0); err != nil {
		return err
	}
	o.Dir = roster.Dir(*dir)
	if o.SD == "" {
		o.SD = filepath.Join(*dir, "targets.json")
	}
	log, closeLog, err := launcherLog(o.LogDir, stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	o.Log = log
	if o.Self, err = os.Executable(); err != nil {
		return err
	}
	if o.Source, err = peers.PythonSource(); err != nil {
		return err
	}
	if o.Interpreter, err = findPython(ctx, *interpreter); err != nil && o.Python > 0 {
		return err
	}
	f, err := fleet.New(o)
	if err != nil {
		return err
	}
	return f.Run(ctx)
}

// launcherLog writes to stderr, or, with a folder for logs, to fleet.log there and only warnings to stderr.
func launcherLog(dir string, stderr io.Writer) (*slog.Logger, func(), error) {
	if dir == "" {
		return slog.New(slog.NewJSONHandler(stderr, nil)), func() {}, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	file, err := os.OpenFile(filepath.Join(dir, "fleet.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, nil, err
	}
	warnings := slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})
	log := slog.New(slog.NewMultiHandler(slog.NewJSONHandler(file, nil), warnings))
	return log, func() { _ = file.Close() }, nil
}

// findPython returns a Python that has the official Prometheus client.
func findPython(ctx context.Context, wanted string) (string, error) {
	candidates := []string{"/usr/bin/python3", "python3"}
	if wanted != "" {
		candidates = []string{wanted}
	}
	for _, c := range candidates {
		if exec.CommandContext(ctx, c, "-c", "import prometheus_client").Run() == nil {
			return c, nil
		}
	}
	return "", fmt.Errorf("none of %s has prometheus_client: install python3-prometheus-client, name a Python with --interpreter, or give --python 0",
		strings.Join(candidates, ", "))
}

func runPeer(ctx context.Context, flags *flag.FlagSet, args []string, stderr io.Writer) error {
	var o peer.Options
	dir := flags.String("join", defaultDir, "folder of the group to join")
	flags.StringVar(&o.Name, "name", fmt.Sprintf("guest-%d", os.Getpid()), "name of the peer")
	flags.StringVar(&o.Node, "node", "edge-guest", "node the peer says it runs on")
	flags.StringVar(&o.Location, "location", "edge", "edge or cloud")
	flags.StringVar(&o.Listen, "listen", "127.0.0.1:0", "address to listen on; port 0 is a free one")
	flags.IntVar(&o.Part, "part", -1, "number of its part of the data; -1 is the first that is free")
	if err := parse(flags, args, 0); err != nil {
		return err
	}
	o.Dir = roster.Dir(*dir)
	o.Log = slog.New(slog.NewJSONHandler(stderr, nil))
	p, err := peer.New(o)
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

func control(ctx context.Context, command string, flags *flag.FlagSet, args []string, stdout io.Writer) error {
	dir := flags.String("dir", defaultDir, "folder of the group")
	language, kill, wantArgs := new(string), new(bool), 0
	switch command {
	case "add":
		language = flags.String("language", "go", "go or python")
	case "remove":
		kill = flags.Bool("kill", false, "kill -9 instead of asking it to leave")
		wantArgs = 1
	}
	if err := parse(flags, args, wantArgs); err != nil {
		return err
	}
	c := fleet.Control{Dir: roster.Dir(*dir)}
	switch command {
	case "add":
		name, err := c.Add(ctx, *language)
		if err == nil {
			_, err = fmt.Fprintln(stdout, name)
		}
		return err
	case "remove":
		return c.Remove(ctx, flags.Arg(0), *kill)
	}
	members, err := c.List(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "PEER\tADDRESS\tNODE\tLOCATION\tLANGUAGE\tPART\tPID")
	for _, m := range members {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\n", m.Peer, m.Address, m.Node, m.Location, m.Language, m.Part, m.PID)
	}
	return w.Flush()
}

func parse(flags *flag.FlagSet, args []string, want int) error {
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != want {
		return fmt.Errorf("%s: got %d arguments, want %d", flags.Name(), flags.NArg(), want)
	}
	return nil
}
