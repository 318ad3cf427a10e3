// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/periplus-io/periplus/test/kube"
)

// cluster runs a control plane for the other commands until it is interrupted.
func cluster(ctx context.Context, args []string) (err error) {
	f := flag.NewFlagSet("cluster", flag.ExitOnError)
	dir := f.String("dir", "", "scratch folder; it gets the file kubeconfig")
	kinds := f.String("kind", "lifelonglearningjobs", "plural of Sedna's kind to define; empty for all")
	_ = f.Parse(args)
	if *dir == "" {
		return errors.New("-dir is needed")
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	c, err := kube.Start(ctx, kube.Options{Dir: *dir})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	var plurals []string
	if *kinds != "" {
		plurals = []string{*kinds}
	}
	if err := c.CreateDefinitions(ctx, plurals...); err != nil {
		return err
	}
	fmt.Println(c.Kubeconfig)
	<-ctx.Done()
	return nil
}
