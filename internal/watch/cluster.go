// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/periplus-io/periplus/internal/resource"
	"github.com/periplus-io/periplus/internal/watch/frame"
)

const (
	// discoverWatched is the time between discoveries when definitions are watched as well.
	discoverWatched = 5 * time.Minute
	// discoverAlone is the time between discoveries when they may not be watched.
	discoverAlone = 30 * time.Second
	// absences is how often in a row a kind must be missing, absentRetry apart, to be let go: a server
	// that is starting may not know all its kinds yet.
	absences    = 2
	absentRetry = time.Second
)

// cluster is the API server as a source: it resolves the wanted kinds and runs a [listWatch] for
// each kind and namespace.
type cluster struct {
	w      *Watcher
	source *sourceState
	// feeds live on over reloads, so that they can resume. Only the goroutine in run uses the map.
	feeds   map[feedKey]*listWatch
	running map[feedKey]func() // stops the feed and waits for it
	// absent counts how often in a row discovery did not find the kind of a feed.
	absent map[feedKey]int
	// changed says that definitions may have changed.
	changed chan struct{}
}

type feedKey struct {
	kind      resource.Kind
	namespace string
}

func newCluster(w *Watcher) *cluster {
	return &cluster{
		w: w, source: &sourceState{name: "kubernetes"},
		feeds: map[feedKey]*listWatch{}, running: map[feedKey]func(){}, absent: map[feedKey]int{}, changed: make(chan struct{}, 1),
	}
}

// run follows plan p until ctx ends.
func (c *cluster) run(ctx context.Context, p, earlier plan) {
	c.forget(p, earlier)
	defer c.stopAll()
	c.prune(ctx, func(k feedKey) bool { return p.config.cluster() && p.wanted(k.kind) })
	if !p.config.cluster() {
		c.source.set("", sourceOff, nil)
		return
	}
	client := c.connect(ctx, p)
	if client == nil {
		return
	}
	defer client.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	definitions := &definitionWatch{client: client, notify: c.poke}
	wg.Go(func() { definitions.run(ctx) })
	c.follow(ctx, p, client, definitions)
}

// forget drops the positions of feeds that a new configuration makes worthless.
func (c *cluster) forget(p, earlier plan) {
	same := p.config.Kubeconfig == earlier.config.Kubeconfig && p.config.Context == earlier.config.Context &&
		p.config.InCluster == earlier.config.InCluster
	for k, l := range c.feeds {
		if !same || l.selector != p.config.selector(k.kind.Group, k.kind.Kind) {
			l.version, l.paged = "", false
		}
	}
}

// connect makes the client, which fails as long as the kubeconfig cannot be read. Nil means that ctx ended.
func (c *cluster) connect(ctx context.Context, p plan) *client {
	var retry backoff
	for ctx.Err() == nil {
		client, err := p.config.client()
		if err == nil {
			c.source.set(client.base, sourceConnecting, nil)
			return client
		}
		if c.source.set(p.config.Kubeconfig, sourceError, err) {
			c.w.log.Error("cannot use the kubeconfig", "err", err)
		}
		sleep(ctx, retry.delay())
	}
	return nil
}

// follow resolves again and again: at intervals, after changed definitions a few times in short
// order, because discovery learns of them a moment later, and with back-off while it fails.
func (c *cluster) follow(ctx context.Context, p plan, client *client, definitions *definitionWatch) {
	soon := []time.Duration{}
	var retry backoff
	for ctx.Err() == nil {
		res := resolver{client: client}.resolve(ctx, p.wants)
		if ctx.Err() != nil {
			return
		}
		c.adopt(ctx, p, client, res)
		wait := discoverWatched
		switch {
		case len(res.failed) > 0:
			wait = retry.delay()
		case len(c.absent) > 0:
			wait = absentRetry
		case len(soon) > 0:
			wait, soon = soon[0], soon[1:]
		case !definitions.works():
			wait = discoverAlone
		}
		if len(res.failed) == 0 {
			retry.reset()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-c.changed:
			soon = []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second}
			sleep(ctx, 100*time.Millisecond) // they come in groups
		}
		timer.Stop()
	}
}

func (c *cluster) poke() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// adopt starts what is new in a resolution and lets go what is not there any more.
func (c *cluster) adopt(ctx context.Context, p plan, client *client, res resolution) {
	want := map[feedKey]bool{}
	for _, s := range res.served {
		for _, namespace := range p.namespaces(s.namespaced) {
			want[feedKey{s.kind, namespace}] = true
		}
	}
	c.prune(ctx, func(k feedKey) bool {
		if want[k] || res.failed[k.kind.Group] != nil {
			delete(c.absent, k)
			return true
		}
		c.absent[k]++
		return c.absent[k] < absences
	})
	for k := range want {
		if c.running[k] == nil {
			c.start(ctx, k, p, client)
		}
	}
	for k := range c.feeds {
		if c.running[k] == nil && res.failed[k.kind.Group] != nil {
			c.start(ctx, k, p, client) // known from before a reload
		}
	}
	c.report(p, res, client)
}

func (c *cluster) report(p plan, res resolution, client *client) {
	var missing []Want
	for _, w := range p.wants {
		found := false
		for _, s := range res.served {
			found = found || w.matches(s.kind.Group, s.kind.Version, s.kind.Kind)
		}
		if !found {
			missing = append(missing, w)
		}
	}
	c.source.setMissing(missing, res.failed)
	for _, err := range res.failed {
		if c.source.set(client.base, sourceError, err) {
			c.w.log.Warn("cannot ask the API server for its kinds", "err", err)
		}
		return
	}
	if c.source.set(client.base, sourceConnected, nil) {
		c.w.log.Info("connected to the API server", "url", client.base)
	}
}

// prune lets go of feeds that are not to be kept.
func (c *cluster) prune(ctx context.Context, keep func(feedKey) bool) {
	for k, l := range c.feeds {
		if keep(k) {
			continue
		}
		if stop := c.running[k]; stop != nil {
			stop()
			delete(c.running, k)
		}
		if c.w.leave(ctx, l.table, l.feed) {
			delete(c.feeds, k)
			delete(c.absent, k)
		}
	}
}

func (c *cluster) start(ctx context.Context, k feedKey, p plan, client *client) {
	l := c.feeds[k]
	if l == nil {
		l = &listWatch{
			feed:    &feed{namespace: k.namespace, rank: rankCluster, state: StateSyncing},
			metrics: c.w.metrics, log: c.w.log, missing: c.poke,
		}
		l.table = c.w.join(k.kind, l.feed)
		c.feeds[k] = l
	}
	l.client, l.strip, l.limit = client, p.strip, int(p.config.MaxObjectSize)
	l.selector = p.config.selector(k.kind.Group, k.kind.Kind)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx)
	}()
	c.running[k] = func() {
		cancel()
		<-done
	}
}

func (c *cluster) stopAll() {
	for k, stop := range c.running {
		stop()
		delete(c.running, k)
	}
}

// definitionWatch notices changes of custom resource definitions, metadata only: with their schemas
// they are megabytes.
type definitionWatch struct {
	client *client
	notify func()

	mu sync.Mutex
	ok bool
}

func (d *definitionWatch) works() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ok
}

func (d *definitionWatch) setWorks(ok bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ok = ok
}

func (d *definitionWatch) run(ctx context.Context) {
	var retry backoff
	for ctx.Err() == nil {
		began := time.Now()
		err := d.watch(ctx)
		d.setWorks(false)
		d.notify() // something may have happened in between
		switch code := statusCode(err); {
		case code == http.StatusForbidden || code == http.StatusNotFound:
			sleep(ctx, jitter(5*time.Minute))
		case time.Since(began) > shortest:
			retry.reset()
			fallthrough
		default:
			sleep(ctx, retry.delay())
		}
	}
}

// definitionLimit is the longest metadata of a definition that is read.
const definitionLimit = 1 << 20

func (d *definitionWatch) watch(ctx context.Context) error {
	const seconds = 600
	ctx, cancel := context.WithTimeout(ctx, (seconds+30)*time.Second)
	defer cancel()
	query := url.Values{"watch": {"1"}, "timeoutSeconds": {strconv.Itoa(seconds)}}
	body, err := d.client.get(ctx, "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", query, acceptMetadata)
	if err != nil {
		return err
	}
	defer closeBody(body)
	d.setWorks(true)
	d.notify()
	frames := frame.NewReader(body, definitionLimit)
	for {
		if _, err := frames.Next(); err != nil && !errors.Is(err, frame.ErrTooLarge) {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		d.notify()
	}
}
