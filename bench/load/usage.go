// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"time"

	"github.com/periplus-io/periplus/bench/load/internal/proc"
)

// usage watches a process for a while; it gives the idle cost that the other commands' figures include.
func usage(ctx context.Context, args []string) error {
	f := flag.NewFlagSet("usage", flag.ExitOnError)
	pid := f.Int("pid", 0, "process id")
	dir := f.String("dir", "", "data folder, to report its size")
	during := f.Duration("for", 0, "how long to watch; 0 prints what was used since the process started")
	_ = f.Parse(args)
	if *pid != 0 {
		w, err := proc.Watch(*pid)
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(*during):
		}
		u := w.Stop()
		if *during == 0 {
			if u.CPUSeconds, err = proc.CPU(*pid); err != nil {
				return err
			}
		}
		fmt.Println(u)
	}
	if *dir != "" {
		files, size, allocated, err := proc.Disk(*dir)
		if err != nil {
			return err
		}
		fmt.Printf("%d files, %.1f MB, %.1f MB allocated\n", files, float64(size)/1e6, float64(allocated)/1e6)
	}
	return nil
}
