// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package keep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"go.uber.org/goleak"

	"github.com/periplus-io/periplus/internal/keep"
	"github.com/periplus-io/periplus/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass lets the bubble's time go by.
func pass(d time.Duration) { <-time.After(d) }

// fake is a store in memory.
type fake struct {
	mu      sync.Mutex
	refs    map[string]uint64
	pending []wire.Sample
	samples map[string][]wire.Sample
	past    []wire.Sample
	seen    map[string]int64
	full    bool
	torn    int // commits that fail
	slow    time.Duration
}

func newFake() *fake {
	return &fake{refs: make(map[string]uint64), samples: make(map[string][]wire.Sample)}
}

type refusal string

func (r refusal) Error() string  { return "refused: " + string(r) }
func (r refusal) Reason() string { return string(r) }

func (f *fake) Append(ref uint64, l labels.Labels, t int64, v float64) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return 0, refusal("disk_full")
	}
	if want := f.refs[l.String()]; ref != 0 && ref != want {
		return 0, fmt.Errorf("reference %d of %s, want %d", ref, l, want)
	}
	if f.refs[l.String()] == 0 {
		f.refs[l.String()] = uint64(len(f.refs) + 1)
	}
	f.pending = append(f.pending, wire.Sample{Labels: l, Time: t, Value: v})
	return f.refs[l.String()], nil
}

func (f *fake) Intern(l labels.Labels) labels.Labels { return l }

func (f *fake) Seen(l labels.Labels) int64 {
	if until, ok := f.seen[l.String()]; ok {
		return until
	}
	return math.MinInt64
}

func (f *fake) Cut() func() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	batch := f.pending
	f.pending = nil
	return func() error {
		pass(f.slow)
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.torn > 0 {
			f.torn--
			return refusal("disk_full")
		}
		for _, s := range batch {
			f.samples[s.Labels.String()] = append(f.samples[s.Labels.String()], s)
		}
		return nil
	}
}

func (f *fake) Backfill(_ context.Context, samples []wire.Sample) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return refusal("disk_full")
	}
	f.past = append(f.past, samples...)
	return nil
}

func (f *fake) set(full bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.full = full
}

// of gives the samples of a series as seconds since start and value, "stale" for a marker.
func (f *fake) of(l labels.Labels, start time.Time) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, s := range f.samples[l.String()] {
		v := fmt.Sprint(s.Value)
		if value.IsStaleNaN(s.Value) {
			v = "stale"
		}
		out = append(out, fmt.Sprintf("%.3f=%s", time.UnixMilli(s.Time).Sub(start).Seconds(), v))
	}
	return out
}

type rig struct {
	*keep.Keep
	store *fake
	reg   *prometheus.Registry
	start time.Time
	stop  func()
}

// open runs a Keep; call it inside a bubble and call stop in it.
func open(t *testing.T) *rig {
	t.Helper()
	r := &rig{store: newFake(), reg: prometheus.NewRegistry(), start: time.Now()}
	k, err := keep.New(keep.Options{Store: r.store, Log: slog.New(slog.DiscardHandler), Registry: r.reg})
	if err != nil {
		t.Fatal(err)
	}
	r.Keep = k
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	r.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return r
}

func (r *rig) want(t *testing.T, l labels.Labels, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, r.store.of(l, r.start)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", l, diff)
	}
}

func (r *rig) counter(t *testing.T, name, reason string) float64 {
	t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && slices.IndexFunc(m.GetLabel(), func(l *dto.LabelPair) bool { return l.GetValue() == reason }) == len(m.GetLabel())-1 {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func (r *rig) sample(l labels.Labels, after time.Duration, v float64) wire.Sample {
	return wire.Sample{Labels: l, Time: r.start.Add(after).UnixMilli(), Value: v}
}

var (
	seriesA = labels.FromStrings("__name__", "a")
	seriesB = labels.FromStrings("__name__", "b")
	seriesC = labels.FromStrings("__name__", "c")
)

func TestSetWritesAtEventTimeAndOnlyChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, -time.Second, 1), r.sample(seriesB, -time.Second, 0)})
		pass(10 * time.Second)
		r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, 9*time.Second, 0), r.sample(seriesB, 9*time.Second, 0)})
		pass(time.Second)
		r.want(t, seriesA, "-1.000=1", "9.000=0")
		r.want(t, seriesB, "-1.000=0")
		r.stop()
	})
}

func TestUnchangedValueIsRepeatedEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, 0, 7)})
		pass(time.Hour)
		r.stop()
		got := r.store.samples[seriesA.String()]
		if len(got) < 59 || len(got) > 62 {
			t.Errorf("%d samples in an hour, want one a minute", len(got))
		}
		for i := 1; i < len(got); i++ {
			if gap := got[i].Time - got[i-1].Time; gap > 91_000 || got[i].Value != 7 {
				t.Errorf("sample %d: value %g after %d ms", i, got[i].Value, gap)
			}
		}
	})
}

func TestLongPastEventIsVisibleAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, -10*time.Minute, 1), r.sample(seriesB, -30*24*time.Hour, 1)})
		pass(time.Second)
		r.want(t, seriesA, "-600.000=1", "0.000=1")
		r.want(t, seriesB, "0.000=1")
		if got := r.store.past; len(got) != 1 || got[0].Time != r.start.Add(-30*24*time.Hour).UnixMilli() {
			t.Errorf("sent to the past: %v", got)
		}
		r.stop()
	})
}

func TestRestartDoesNotWriteAgainWhatTheStoreHas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.store.seen = map[string]int64{seriesA.String(): r.start.Add(-2 * time.Hour).UnixMilli(), seriesB.String(): r.start.Add(-2 * time.Hour).UnixMilli()}
		r.Set("job", time.Now(), []wire.Sample{r.sample(seriesB, -24*time.Hour, 0)}, []wire.Sample{
			r.sample(seriesA, -3*time.Hour, 1), r.sample(seriesB, -time.Hour, 1),
		})
		pass(time.Second)
		r.want(t, seriesA, "0.000=1")
		r.want(t, seriesB, "0.000=1")
		if got := r.store.past; len(got) != 1 || got[0].Time != r.start.Add(-time.Hour).UnixMilli() {
			t.Errorf("sent to the past: %v, want the change during the stop", got)
		}
		r.stop()
	})
}

func TestTimesAreClamped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, 5*time.Second, 1), r.sample(seriesB, time.Hour, 1)})
		r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, 0, 2), r.sample(seriesB, time.Hour, 1)})
		pass(100 * time.Millisecond)
		r.want(t, seriesA, "5.000=1", "5.001=2")
		r.want(t, seriesB, "0.000=1")
		if got := r.counter(t, "periplus_keep_skew_total", ""); got != 1 {
			t.Errorf("skew %g, want 1", got)
		}
		r.stop()
	})
}

func TestTransitionsComeBeforeTheCurrentValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.Set("job", time.Now(), []wire.Sample{
			r.sample(seriesA, -20*time.Second, 1), r.sample(seriesC, -19*time.Second, 1), r.sample(seriesA, -10*time.Second, 0),
		}, []wire.Sample{r.sample(seriesA, -10*time.Second, 0), r.sample(seriesB, -10*time.Second, 1)})
		pass(100 * time.Millisecond)
		r.want(t, seriesA, "-20.000=1", "-10.000=0")
		r.want(t, seriesB, "-10.000=1")
		r.want(t, seriesC, "-19.000=1", "0.000=stale")
		r.stop()
	})
}

func TestSeriesEndWithStalenessMarker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, 0, 1), r.sample(seriesB, 0, 1)})
		pass(5 * time.Second)
		r.Set("job", r.start.Add(4*time.Second), nil, []wire.Sample{r.sample(seriesB, 0, 1)})
		r.Remove("job", r.start.Add(-time.Minute))
		r.Remove("job", r.start)
		r.Remove("nobody", r.start)
		pass(5 * time.Minute)
		r.want(t, seriesA, "0.000=1", "4.000=stale")
		r.want(t, seriesB, "0.000=1", "0.001=stale")
		r.stop()
	})
}

func TestShutdownWritesTheBatchAndNoMarkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, 0, 1)})
		r.stop()
		r.want(t, seriesA, "0.000=1")
	})
}

func TestSeriesHasOneWriterAndIsHandedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.Set("first", time.Now(), nil, []wire.Sample{r.sample(seriesA, 0, 1)})
		r.Set("second", time.Now(), nil, []wire.Sample{r.sample(seriesB, 0, 5), r.sample(seriesA, 0, 2), r.sample(seriesC, 0, 6)})
		pass(time.Second)
		r.want(t, seriesA, "0.000=1")
		r.want(t, seriesC, "0.000=6")
		if got := r.counter(t, "periplus_keep_samples_lost_total", "duplicate"); got != 1 {
			t.Errorf("%g duplicates, want 1", got)
		}
		r.Remove("first", time.Now())
		pass(time.Second)
		r.want(t, seriesA, "0.000=1", "1.000=stale", "1.001=2")
		r.Remove("second", time.Now())
		pass(time.Second)
		r.want(t, seriesA, "0.000=1", "1.000=stale", "1.001=2", "2.000=stale")
		r.stop()
	})
}

func TestFullDiskHoldsSamples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, 0, 1)})
		pass(time.Second)
		r.store.set(true)
		r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, time.Second, 2)})
		pass(3 * time.Minute)
		r.want(t, seriesA, "0.000=1")
		if err := r.History(t.Context(), []wire.Sample{r.sample(seriesA, -time.Hour, 1)}); err == nil {
			t.Error("History on a full disk reported no error")
		}
		r.store.set(false)
		pass(3 * time.Second)
		got := r.store.of(seriesA, r.start)
		if len(got) < 2 || got[1] != "1.000=2" {
			t.Errorf("after the disk had space: %v", got)
		}
		r.store.mu.Lock()
		r.store.torn = 1
		r.store.mu.Unlock()
		r.Remove("job", time.Now())
		pass(3 * time.Second)
		if got = r.store.of(seriesA, r.start); got[len(got)-1][len(got[len(got)-1])-5:] != "stale" {
			t.Errorf("marker of a failed batch is missing: %v", got)
		}
		r.stop()
	})
}

func TestHistoryIsPassedOnInBatches(t *testing.T) {
	store := newFake()
	k, err := keep.New(keep.Options{Store: store, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	samples := make([]wire.Sample, 120_000)
	for i := range samples {
		samples[i] = wire.Sample{Labels: seriesA, Time: int64(i), Value: 1}
	}
	if err := k.History(t.Context(), samples); err != nil || len(store.past) != len(samples) {
		t.Errorf("%d samples of %d, %v", len(store.past), len(samples), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := k.History(ctx, samples); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled History: %v", err)
	}
}

func TestSlowDiskDoesNotHoldUpSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		r.store.slow = 20 * time.Second
		for range 10 {
			r.Set("job", time.Now(), nil, []wire.Sample{r.sample(seriesA, time.Since(r.start), time.Since(r.start).Seconds())})
			pass(100 * time.Millisecond)
		}
		if took := time.Since(r.start); took != time.Second {
			t.Errorf("ten sets and pauses of 100 ms took %s", took)
		}
		pass(time.Minute)
		if got := len(r.store.of(seriesA, r.start)); got < 10 {
			t.Errorf("%d samples written", got)
		}
		r.stop()
	})
}

func TestOddSetsDoNoHarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := open(t)
		nan := r.sample(seriesB, 0, math.NaN())
		r.Set("", time.Time{}, nil, nil)
		r.Set("job", time.Time{}, []wire.Sample{{}, {}}, []wire.Sample{
			r.sample(seriesA, 0, 1), r.sample(seriesA, 0, 2), nan,
			{Time: math.MaxInt64},
			{Time: math.MinInt64},
			{Labels: seriesC, Time: math.MinInt64, Value: math.Inf(1)},
		})
		r.Set("job", time.Now(), nil, []wire.Sample{nan, r.sample(seriesA, 0, 1)})
		pass(time.Second)
		r.want(t, seriesA, "0.000=1")
		r.want(t, seriesB, "0.000=NaN")
		r.want(t, seriesC, "0.000=+Inf", "0.001=stale")
		r.Set("job", time.Now(), nil, nil)
		pass(2 * time.Minute)
		r.want(t, seriesA, "0.000=1", "1.000=stale")
		if got := r.counter(t, "periplus_keep_owners", ""); got != 0 {
			t.Errorf("%g owners left", got)
		}
		r.stop()
	})
}

func TestManyGoroutinesAtOnce(t *testing.T) {
	store := newFake()
	k, err := keep.New(keep.Options{Store: store, Log: slog.New(slog.DiscardHandler), Registry: prometheus.NewRegistry(), Repeat: 60 * time.Millisecond, Flush: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				owner, at := fmt.Sprint("owner", (g+i)%5), time.Now()
				if i%7 == 0 {
					k.Remove(owner, at)
					continue
				}
				k.Set(owner, at, nil, []wire.Sample{
					{Labels: labels.FromStrings("__name__", "s", "n", fmt.Sprint(i%11)), Time: at.UnixMilli(), Value: float64(i)},
					{Labels: seriesA, Time: at.Add(-2 * time.Hour).UnixMilli(), Value: 1},
				})
			}
		})
	}
	wg.Wait()
	for g := range 5 {
		k.Remove(fmt.Sprint("owner", g), time.Now())
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	for name, samples := range store.samples {
		for i := 1; i < len(samples); i++ {
			if samples[i].Time <= samples[i-1].Time {
				t.Fatalf("%s: time %d after %d", name, samples[i].Time, samples[i-1].Time)
			}
		}
		if !value.IsStaleNaN(samples[len(samples)-1].Value) {
			t.Errorf("%s does not end with a marker", name)
		}
	}
}

// TestRandomHistoryMatchesTheModel plays sets and removals of a few owners that fight for the same
// series and checks, per series, that times rise, that no value is written twice within half a repeat
// interval, and that the last sample is what the model says is current.
func TestRandomHistoryMatchesTheModel(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) { randomHistory(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

func randomHistory(t *testing.T, rnd *rand.Rand) {
	r := open(t)
	const nOwners, nSeries = 4, 6
	name := func(i int) labels.Labels { return labels.FromStrings("__name__", fmt.Sprintf("s%d", i)) }
	current := make([]map[int]float64, nOwners)
	for range 300 {
		o := rnd.IntN(nOwners)
		owner := fmt.Sprint("owner", o)
		if rnd.IntN(6) == 0 {
			r.Remove(owner, time.Now().Add(time.Duration(rnd.IntN(20_000)-10_000)*time.Millisecond))
			current[o] = nil
		} else {
			set, earlier, now := map[int]float64{}, []wire.Sample(nil), []wire.Sample(nil)
			for s := range nSeries {
				if rnd.IntN(2) == 0 {
					continue
				}
				at := time.Since(r.start) - time.Duration(rnd.IntN(5000))*time.Millisecond
				if rnd.IntN(3) == 0 {
					earlier = append(earlier, r.sample(name(s), at, float64(rnd.IntN(3))))
				}
				set[s] = float64(rnd.IntN(3))
				now = append(now, r.sample(name(s), at+time.Duration(rnd.IntN(30_000)-5000)*time.Millisecond, set[s]))
			}
			rnd.Shuffle(len(now), func(i, j int) { now[i], now[j] = now[j], now[i] })
			r.Set(owner, time.Now(), earlier, now)
			current[o] = set
		}
		pass(time.Duration(rnd.IntN(40_000)) * time.Millisecond)
	}
	pass(2 * time.Minute)
	r.stop()
	for s := range nSeries {
		samples := r.store.samples[name(s).String()]
		for i := 1; i < len(samples); i++ {
			if samples[i].Time <= samples[i-1].Time {
				t.Fatalf("series %d: time %d after %d", s, samples[i].Time, samples[i-1].Time)
			}
		}
		if len(samples) == 0 {
			continue
		}
		last, claimed, ok := samples[len(samples)-1].Value, false, false
		for _, set := range current {
			if v, has := set[s]; has {
				claimed = true
				ok = ok || v == last
			}
		}
		if stale := value.IsStaleNaN(last); claimed && !ok || claimed == stale || math.IsNaN(last) && !stale {
			t.Errorf("series %d ends with %g, owners say %v", s, last, current)
		}
	}
}
