// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/periplus-io/periplus/internal/app/hub"
	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state/spec"
)

// checkFlags are the flags of check.
type checkFlags struct {
	print, defaults bool
	specification   string
	naming          string
	object          string
}

func newCheck() *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check [FILE]",
		Short: "Check a configuration, or show what a resource specification gives",
		Example: `  periplus check periplus.yaml
  periplus check --resource-state my.yaml --object job.yaml
  kubectl get ll my-job -o yaml | periplus check --resource-state my.yaml --object -
  periplus check --default-jobs`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := cmd.OutOrStdout()
			switch {
			case f.defaults:
				text, err := hub.DefaultJobs()
				if err == nil {
					_, err = io.WriteString(out, text)
				}
				return err
			case f.specification != "" && len(args) == 0:
				return explain(cmd.InOrStdin(), out, f)
			case len(args) == 1 && f.specification == "" && f.object == "":
				return checkConfig(out, cmd.ErrOrStderr(), args[0], f.print)
			}
			return errors.New("give a configuration file, or --resource-state FILE with --object FILE, or --default-jobs")
		},
	}
	cmd.Flags().BoolVar(&f.print, "print", false, "print the configuration as it would be in force, without secrets")
	cmd.Flags().BoolVar(&f.defaults, "default-jobs", false, "print the scrape jobs of every install")
	cmd.Flags().StringVar(&f.specification, "resource-state", "", "resource specification to check")
	cmd.Flags().StringVar(&f.naming, "naming", "", "legacy or current, where the specification does not say")
	cmd.Flags().StringVar(&f.object, "object", "", "object to evaluate the specification on, - for standard input")
	return cmd
}

func checkConfig(out, errOut io.Writer, path string, printIt bool) error {
	log := slog.New(slog.NewTextHandler(errOut, &slog.HandlerOptions{Level: slog.LevelWarn}))
	text, err := hub.Check(hub.Options{ConfigFile: path, Log: log})
	if err != nil {
		return err
	}
	if printIt {
		_, err = io.WriteString(out, text)
		return err
	}
	_, err = fmt.Fprintf(out, "%s is valid\n", path)
	return err
}

// explain parses a specification and prints what the object gives under it.
func explain(in io.Reader, out io.Writer, f checkFlags) error {
	if f.object == "" {
		if err := hub.CheckSpecification(f.specification, spec.Naming(f.naming)); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "%s is valid\n", f.specification)
		return err
	}
	var data []byte
	var err error
	if f.object == "-" {
		data, err = io.ReadAll(in)
	} else {
		data, err = os.ReadFile(f.object)
	}
	if err != nil {
		return fmt.Errorf("read object: %w", err)
	}
	var object resource.Object
	if err := yaml.Unmarshal(data, &object); err != nil {
		return fmt.Errorf("object %s: %w", f.object, err)
	}
	return hub.Explain(out, f.specification, spec.Naming(f.naming), object)
}
