// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"github.com/periplus-io/periplus/internal/learnapi/client"
	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/timeline"
)

// jobsFlags are the flags of jobs and jobs show.
type jobsFlags struct {
	url           address
	output, color string
	watch         bool
	kind, uid     string
	query         learning.JobQuery
}

func (f *jobsFlags) add(cmd *cobra.Command) {
	urlFlag(cmd, &f.url)
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "text, json or yaml")
	cmd.Flags().StringVar(&f.color, "color", "auto", "auto, always or never")
	cmd.Flags().BoolVarP(&f.watch, "watch", "w", false, "draw again at every change until interrupted")
}

func newJobs() *cobra.Command {
	var f jobsFlags
	cmd := &cobra.Command{
		Use:   "jobs",
		Short: "List learning jobs, or show one",
		Example: `  periplus jobs
  periplus jobs --namespace factory --condition Failed --sort -changed
  periplus jobs show factory/road-damage --watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd, func(ctx context.Context, c *client.Client) (any, drawing, error) {
				page, err := c.Jobs(ctx, f.query)
				return page, func(w io.Writer, o timeline.Options) error { return timeline.Jobs(w, page, o) }, err
			})
		},
	}
	f.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&f.query.Text, "text", "", "only jobs with this in name, namespace, dataset or message")
	flags.StringSliceVarP(&f.query.Namespaces, "namespace", "n", nil, "only these namespaces")
	flags.StringSliceVar(&f.query.Kinds, "kind", nil, "only these kinds")
	flags.StringSliceVar(&f.query.Stages, "stage", nil, "only jobs in these stages")
	flags.StringSliceVar(&f.query.Conditions, "condition", nil, "only jobs in these conditions")
	flags.StringSliceVar(&f.query.Nodes, "node", nil, "only jobs with workers on these nodes")
	flags.BoolVar(&f.query.Deleted, "deleted", false, "also jobs that are gone")
	flags.StringVar(&f.query.Sort, "sort", "", "field to sort by; a leading minus turns the order round")
	flags.IntVar(&f.query.Limit, "limit", 1000, "how many jobs at most")
	flags.IntVar(&f.query.Offset, "offset", 0, "how many jobs to leave out first")
	cmd.AddCommand(newJobsShow())
	return cmd
}

func newJobsShow() *cobra.Command {
	var f jobsFlags
	cmd := &cobra.Command{
		Use:   "show NAMESPACE/NAME",
		Short: "Show a job's stages as a timeline, with rounds, scores, samples and workers",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace, name, ok := strings.Cut(args[0], "/")
			if !ok || namespace == "" || name == "" {
				return fmt.Errorf("%q: use NAMESPACE/NAME", args[0])
			}
			return f.run(cmd, func(ctx context.Context, c *client.Client) (any, drawing, error) {
				job, err := c.Job(ctx, namespace, f.kind, name, f.uid)
				return job, func(w io.Writer, o timeline.Options) error { return timeline.Job(w, job, o) }, err
			})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&f.kind, "kind", "", "kind of the job, where the name alone is not enough")
	cmd.Flags().StringVar(&f.uid, "uid", "", "uid of the job, to see one that was deleted")
	return cmd
}

// drawing writes an answer as text.
type drawing func(io.Writer, timeline.Options) error

// asking gets an answer and how to draw it.
type asking func(context.Context, *client.Client) (any, drawing, error)

// run asks and prints, once or at every change.
func (f *jobsFlags) run(cmd *cobra.Command, ask asking) error {
	ctx, out := cmd.Context(), cmd.OutOrStdout()
	c := &client.Client{Base: string(f.url), HTTP: &http.Client{}}
	if !f.watch {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return f.render(ctx, out, out, c, ask)
	}
	shown, err := f.redraw(ctx, out, c, ask, "")
	if err != nil {
		return err
	}
	err = c.Watch(ctx, 0, func(learning.Event) (err error) {
		shown, err = f.redraw(ctx, out, c, ask, shown)
		return err
	})
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// redraw prints the answer if it is not the one that is shown, and gives it. It clears a terminal before; in a pipe
// the answers follow one another.
func (f *jobsFlags) redraw(ctx context.Context, out io.Writer, c *client.Client, ask asking, shown string) (string, error) {
	var b strings.Builder
	if err := f.render(ctx, &b, out, c, ask); err != nil {
		return shown, err
	}
	text := b.String()
	if text == shown {
		return shown, nil
	}
	wipe := ""
	if f.output == "text" && terminal(out) {
		wipe = "\x1b[H\x1b[2J"
	}
	_, err := io.WriteString(out, wipe+text)
	return text, err
}

// render asks and writes the answer to w; screen decides on width and colour.
func (f *jobsFlags) render(ctx context.Context, w, screen io.Writer, c *client.Client, ask asking) error {
	answer, draw, err := ask(ctx, c)
	if err != nil {
		return asked(f.url, err)
	}
	switch f.output {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(answer)
	case "yaml":
		text, err := yaml.Marshal(answer)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		_, err = w.Write(text)
		return err
	case "text":
		o, err := f.options(screen)
		if err != nil {
			return err
		}
		return draw(w, o)
	}
	return fmt.Errorf("output %q: use text, json or yaml", f.output)
}

func (f *jobsFlags) options(screen io.Writer) (timeline.Options, error) {
	o := timeline.Options{Width: 120, Now: time.Now(), Location: time.Local}
	file, isFile := screen.(*os.File)
	if isFile && terminal(screen) {
		if width, _, err := term.GetSize(int(file.Fd())); err == nil {
			o.Width = width
		}
	}
	switch f.color {
	case "auto":
		o.Color = terminal(screen) && os.Getenv("NO_COLOR") == ""
	case "always":
		o.Color = true
	case "never":
	default:
		return o, fmt.Errorf("color %q: use auto, always or never", f.color)
	}
	return o, nil
}

// terminal tells whether w is one.
func terminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}
