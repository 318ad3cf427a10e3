// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/state"
	"github.com/periplus-io/periplus/internal/state/spec"
)

func foo(name string, status map[string]any) resource.Object {
	return resource.Object{
		"apiVersion": "myteam.io/v1", "kind": "Foo",
		"metadata": map[string]any{"name": name, "namespace": "ns", "uid": "uid-" + name},
		"status":   status,
	}
}

func text(t testing.TB, e *state.Engine) string {
	t.Helper()
	var b bytes.Buffer
	if err := e.Text(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReloadKeepsWhatDidNotChange(t *testing.T) {
	t.Parallel()
	var r recorder
	one := "- {name: one, each: {type: Gauge, gauge: {path: [status, a]}}}"
	other := strings.ReplaceAll(wrap(one), "Foo", "Bar")
	e := newEngine(t, prometheus.NewRegistry(), append(parse(t, wrap(one), spec.Choices{}), parse(t, other, spec.Choices{})...), &r)
	o := foo("a", map[string]any{"a": int64(1), "b": int64(2)})
	bar := foo("b", map[string]any{"a": int64(5)})
	bar["kind"] = "Bar"
	e.Handle(t.Context(), applied(o, at("10:00:00")))
	e.Handle(t.Context(), applied(bar, at("10:00:00")))
	r.take()

	two := "- {name: two, each: {type: Gauge, gauge: {path: [status, b]}}}"
	replay := e.Apply(append(parse(t, wrap(two), spec.Choices{}), parse(t, other, spec.Choices{})...))
	if diff := cmp.Diff([]resource.Kind{{Group: "myteam.io", Version: "v1", Kind: "Foo"}}, replay); diff != "" {
		t.Errorf("replay -want +got:\n%s", diff)
	}
	e.Handle(t.Context(), initial(o, at("10:01:00")))
	if diff := cmp.Diff([]string{"foo_one 5", "foo_two 2"}, plain(text(t, e))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	want := "set state/Foo.v1.myteam.io/uid-a 10:01:00.000\n  now 10:01:00.000 {__name__=\"foo_two\"} 2\n"
	if diff := cmp.Diff(want, r.take()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	other = strings.ReplaceAll(wrap(one), "Foo", "Qux")
	qux := foo("q", map[string]any{"a": int64(1)})
	qux["kind"] = "Qux"
	e.Handle(t.Context(), applied(qux, at("10:02:00"))) // somebody else wants it, so far
	replay = e.Apply(append(parse(t, wrap(two), spec.Choices{}), parse(t, other, spec.Choices{})...))
	if diff := cmp.Diff([]resource.Kind{{Group: "myteam.io", Version: "v1", Kind: "Qux"}}, replay); diff != "" {
		t.Errorf("replay -want +got:\n%s", diff)
	}
	if got := r.take(); got != "remove state/Bar.v1.myteam.io/uid-b "+got[len(got)-13:] {
		t.Errorf("got %s", got)
	}

	if replay := e.Apply(nil); len(replay) > 0 {
		t.Errorf("replay of %v for nobody", replay)
	}
	if got := r.take(); !strings.Contains(got, "remove state/Foo.v1.myteam.io/uid-a") {
		t.Errorf("a specification that is gone leaves series:\n%s", got)
	}
	if got := text(t, e); got != "" {
		t.Errorf("a specification that is gone leaves text:\n%s", got)
	}
}

func TestCountsReachTheSink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var r recorder
		e := newEngine(t, prometheus.NewRegistry(), parse(t, wrap(
			"- {name: by_phase, limit: 2, each: {type: Count, count: {labelsFromPath: {phase: [status, phase]}}}}"), spec.Choices{}), &r)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = e.Run(ctx) })
		phases := func(p ...string) {
			for i, phase := range p {
				e.Handle(ctx, applied(foo(fmt.Sprint(i), map[string]any{"phase": phase}), time.Now()))
			}
		}
		counts := func() []string {
			<-time.After(2 * time.Second)
			synctest.Wait()
			return slices.DeleteFunc(strings.Split(r.take(), "\n"), func(l string) bool { return !strings.Contains(l, "__name__") })
		}
		trim := func(lines []string) (out []string) {
			for _, l := range lines {
				out = append(out, l[strings.Index(l, "{"):])
			}
			return out
		}
		phases("A", "B", "A", "C")
		want := []string{`{__name__="foo_by_phase", phase="A"} 2`, `{__name__="foo_by_phase", phase="B"} 1`}
		if diff := cmp.Diff(want, trim(counts())); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		phases("B", "B", "B")
		e.Handle(ctx, resource.Event{Type: resource.Deleted, Kind: state.KindOf(foo("0", nil)), Object: foo("0", nil), Received: time.Now()})
		want = []string{`{__name__="foo_by_phase", phase="B"} 2`}
		if diff := cmp.Diff(want, trim(counts())); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		cancel()
		wg.Wait()
	})
}

func TestHugeObjectsHurtNobody(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	var r recorder
	e := newEngine(t, reg, parse(t, wrap(`
- {name: text_info, each: {type: Info, info: {path: [status], labelsFromPath: {message: [message]}}}}
- {name: list, each: {type: Gauge, gauge: {path: [status, conditions], labelsFromPath: {n: [n]}, valueFrom: [v]}}}
- {name: newest, each: {type: Gauge, gauge: {path: [status, conditions, "-1", n]}}}
- {name: doc, each: {type: Gauge, gauge: {path: [status, message, "@json"]}}}
- {name: cel, each: {type: Gauge, gauge: {valueFrom: {cel: 'object.status.conditions.filter(c, c.v == 2).size()'}}}}
- {name: fine, each: {type: Gauge, gauge: {path: [status, fine]}}}`), spec.Choices{}), &r)
	list := make([]any, 1_000_000)
	for i := range list {
		list[i] = map[string]any{"n": int64(i), "v": int64(1), "type": "T", "lastTransitionTime": "2026-01-02T03:04:05Z"}
	}
	huge := foo("huge", map[string]any{
		"message": strings.Repeat("ä", 5<<20), "conditions": list, "fine": int64(1),
	})
	bad := foo("bad", map[string]any{"message": "\xff\xfe bad \x00", "fine": int64(2)})
	start := time.Now()
	e.Handle(t.Context(), applied(huge, time.Now()))
	huge["status"].(map[string]any)["conditions"] = append(list, list[0])
	e.Handle(t.Context(), applied(huge, time.Now()))
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
	e.Handle(t.Context(), applied(bad, time.Now()))
	got := text(t, e)
	if n := strings.Count(got, "foo_list{"); n != state.Default().ObjectSeriesLimit {
		t.Errorf("%d series of the list, want the cap", n)
	}
	if len(got) > 1<<20 {
		t.Errorf("%d bytes of text", len(got))
	}
	for _, want := range []string{"foo_newest 0\n", "foo_fine 1\n", "foo_fine 2\n", "foo_text_info{message=\"\uFFFD bad \x00\"} 1\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q", want)
		}
	}
	problems, err := testutil.GatherAndCount(reg, "periplus_state_errors_total", "periplus_state_series_lost_total", "periplus_state_label_values_changed_total")
	if err != nil || problems < 5 {
		t.Errorf("%d kinds of problems counted, err %v", problems, err)
	}
}

func TestLimitsAreOverAllObjectsAndFreed(t *testing.T) {
	t.Parallel()
	e := newEngine(t, prometheus.NewRegistry(), parse(t, wrap(
		"- {name: v, limit: 2, labelsFromPath: {name: [metadata, name]}, each: {type: Gauge, gauge: {path: [status, a]}}}"), spec.Choices{}), nil)
	apply := func(name string) {
		e.Handle(t.Context(), applied(foo(name, map[string]any{"a": int64(1)}), time.Now()))
	}
	for _, name := range []string{"a", "b", "c", "a"} {
		apply(name)
	}
	if diff := cmp.Diff([]string{`foo_v{name="a"} 1`, `foo_v{name="b"} 1`}, plain(text(t, e))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	e.Handle(t.Context(), resource.Event{Type: resource.Deleted, Kind: state.KindOf(foo("a", nil)), Object: foo("a", nil), Received: time.Now()})
	apply("c")
	if diff := cmp.Diff([]string{`foo_v{name="b"} 1`, `foo_v{name="c"} 1`}, plain(text(t, e))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestExplainSaysWhyThereIsNothing(t *testing.T) {
	t.Parallel()
	specs := parse(t, wrap(`
- {name: there, each: {type: Gauge, gauge: {path: [status, a]}}}
- {name: typo, each: {type: Gauge, gauge: {path: [status, b, c]}}}
- {name: wrong, each: {type: Gauge, gauge: {path: [metadata, name]}}}
- {name: no_label_info, each: {type: Info, info: {path: [status], labelsFromPath: {x: [y]}}}}
- {name: other, selector: "a=b", each: {type: Gauge, gauge: {path: [status, a]}}}
- {name: star, each: {type: Gauge, gauge: {path: [status, list, "*", v]}}}
- {name: value, each: {type: Gauge, gauge: {path: [status, list], valueFrom: [v]}}}`), spec.Choices{})
	var b bytes.Buffer
	o := foo("a", map[string]any{"a": int64(1), "list": []any{map[string]any{"w": int64(1)}}})
	if err := state.Explain(&b, specs, state.Default(), o); err != nil {
		t.Fatal(err)
	}
	var got []string
	for l := range strings.Lines(b.String()) {
		if !strings.HasPrefix(l, "# HELP") && !strings.HasPrefix(l, "# TYPE") {
			got = append(got, strings.TrimSpace(l))
		}
	}
	want := []string{
		"foo_there 1",
		"# note: foo_typo: there is nothing at [status, b]: an object of 2 fields has no b",
		`# note: foo_wrong: [metadata, name]: "a": not a number, boolean, quantity, percentage, time or duration`,
		"# note: foo_no_label_info: none of its labels is found in an object of 2 fields at [status]",
		"# note: foo_other: its selector does not match",
		"# note: foo_star: nothing beyond [status, list, *] has what it asks for",
		"# note: foo_value: a list of 1 at [status, list] has nothing at [v]",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	o["kind"] = "Other"
	if err := state.Explain(&b, specs, state.Default(), o); err == nil {
		t.Error("a kind that nothing speaks about is explained")
	}
}

func TestConfigSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	c := state.Default()
	if err := c.Validate(); err != nil {
		t.Errorf("default: %v", err)
	}
	specs, err := c.Load()
	if err != nil || len(specs) != 2 {
		t.Fatalf("%d shipped specifications, err %v", len(specs), err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bad.yaml"), []byte("spec:\n  resources:\n    - wrong: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Files = []state.File{{Path: "bad.yaml"}, {Path: "absent.yaml"}}
	c.SetDirectory(dir)
	_, err = c.Load()
	if err == nil || !strings.Contains(err.Error(), "bad.yaml:3: unknown key \"wrong\"") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	c = state.Config{Shipped: []string{"x"}, Files: []state.File{{Naming: "y", SeriesLimit: -1}}}
	if err := c.Validate(); err == nil || len(strings.Split(err.Error(), "\n")) != 7 {
		t.Errorf("got %v", err)
	}
}
