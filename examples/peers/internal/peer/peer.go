// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package peer is one participant of decentralised learning.
//
// A peer holds its own part of a labelled data set and nobody else's. In each round it trains its model on
// a few of its samples, meets a few neighbours (it pushes its model and gets theirs, [gossip]), and takes
// the mean of its own model and all that came in since the last round, weighted by samples. Then it
// evaluates, publishes and rests until the next round is due. There is no server and nobody waits for
// anybody: a neighbour that is gone is skipped.
//
//	train ─> show ─> exchange ─> merge ─> evaluate ─> rest ─┐
//	  ^                                                     │
//	  └─────────────────────────────────────────────────────┘
//
// It never uses more than its share of a core (the group's duty) over a round: the rest grows instead.
// Who the others are comes from a folder ([roster]), read again when it changes.
package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/periplus-io/periplus/examples/peers/internal/deal"
	"github.com/periplus-io/periplus/examples/peers/internal/gossip"
	"github.com/periplus-io/periplus/examples/peers/internal/idx"
	"github.com/periplus-io/periplus/examples/peers/internal/mlp"
	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

const (
	testSamples  = 1000 // of the shared test set that are evaluated
	trainSamples = 500  // of the own part that are evaluated
	meetTimeout  = 2 * time.Second
	logEvery     = 5 // rounds
	maxTrust     = 4 // a neighbour counts at most this many times the own samples
	staleRounds  = 10
)

// Options say who a peer is.
type Options struct {
	Dir      roster.Dir
	Name     string
	Node     string
	Location string
	Listen   string // host:port, port 0 for a free one
	Part     int    // number of its part of the data; -1 takes the first that nobody listed has
	Log      *slog.Logger
}

// Peer is one participant. Make it with [New] and let it live in [Peer.Run].
type Peer struct {
	o     Options
	group roster.Group
	self  roster.Member

	net         *mlp.Net
	train, test samples
	round       uint64
	blind       bool // the list of peers is not readable
	rng         *rand.Rand

	registry *prometheus.Registry
	m        *metrics
	circle   *circle
	client   gossip.Client
	listener net.Listener
}

// New reads the group's settings and the peer's part of the data, and opens its port.
func New(o Options) (*Peer, error) {
	group, err := o.Dir.Group()
	if err != nil {
		return nil, err
	}
	if !roster.NameOK(o.Name) {
		return nil, fmt.Errorf("peer name %q: want letters, digits, dots, dashes and underscores", o.Name)
	}
	if o.Part < 0 {
		members, _ := o.Dir.Members() // a bad member file only means that its part may be taken twice
		o.Part = roster.FreePart(members, group.Parts)
	}
	p := &Peer{
		o: o, group: group, net: mlp.New(ModelShape(), group.Seed),
		rng: rand.New(rand.NewPCG(group.Seed, uint64(o.Part))),
	}
	if err := p.loadData(); err != nil {
		return nil, err
	}
	if err := p.loadInitial(); err != nil {
		return nil, err
	}
	if p.listener, err = net.Listen("tcp", o.Listen); err != nil {
		return nil, err
	}
	p.self = roster.Member{
		Peer: o.Name, Group: group.Group, Address: p.listener.Addr().String(), Node: o.Node,
		Location: o.Location, Language: "go", Part: o.Part, PID: os.Getpid(),
	}
	p.registry = prometheus.NewRegistry()
	p.registry.MustRegister(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p.m = newMetrics(p.registry, p.self, group.Dataset)
	p.m.samples.Set(float64(len(p.train.labels)))
	shape := ModelShape()
	p.circle = &circle{self: p.self, shape: shape[:], m: p.m, inbox: map[string]gossip.Model{}}
	p.client = gossip.Client{HTTP: meeting(), Party: p.circle}
	return p, nil
}

// meeting is the client for other peers: no proxies, no redirects, and no waiting for those who hang.
func meeting() *http.Client {
	return &http.Client{
		Timeout:       meetTimeout,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: 30 * time.Second, MaxResponseHeaderBytes: 16 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (p *Peer) loadData() (err error) {
	part, err := idx.ReadInt32s(p.o.Dir.PartFile(deal.PartName(p.o.Part)))
	if err != nil {
		return err
	}
	if p.train, err = load(p.group.Data, deal.TrainImages, deal.TrainLabels, part, 0); err != nil {
		return err
	}
	if len(p.train.labels) == 0 {
		return fmt.Errorf("part %d has no samples", p.o.Part)
	}
	p.rng.Shuffle(len(p.train.labels), func(i, j int) {
		p.train.x[i], p.train.x[j] = p.train.x[j], p.train.x[i]
		p.train.labels[i], p.train.labels[j] = p.train.labels[j], p.train.labels[i]
	})
	p.test, err = load(p.group.Data, deal.TestImages, deal.TestLabels, nil, testSamples)
	return err
}

func (p *Peer) loadInitial() error {
	frame, err := os.ReadFile(p.o.Dir.Initial())
	if err != nil {
		return err
	}
	m, err := gossip.Decode(frame)
	if err != nil {
		return fmt.Errorf("%s: %w", p.o.Dir.Initial(), err)
	}
	return p.net.Set(m.Weights)
}

// Addr is where the peer listens.
func (p *Peer) Addr() string { return p.self.Address }

// Run joins the group and learns until ctx ends; then it leaves.
func (p *Peer) Run(ctx context.Context) (err error) {
	log := p.o.Log.With("peer", p.self.Peer, "group", p.self.Group)
	server := &http.Server{
		Handler: p.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if err := p.publish(); err != nil {
		return err
	}
	p.evaluate()
	joined := false
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(p.listener) })
	defer func() {
		stop, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if joined {
			err = errors.Join(err, p.o.Dir.Leave(p.self.Peer))
		}
		_ = server.Shutdown(stop)
		_ = server.Close()
		served.Wait()
		p.client.HTTP.CloseIdleConnections()
		log.Info("left", "round", p.round)
	}()
	if p.taken(ctx) {
		return fmt.Errorf("peer name %s is taken by a peer that answers", p.self.Peer)
	}
	if err := p.o.Dir.Join(p.self); err != nil {
		return err
	}
	joined = true
	if p.group.Dataset != "fashion-mnist" {
		log.Warn("no real data set was found: this peer learns from GENERATED images", "dataset", p.group.Dataset)
	}
	log.Info("joined", "address", p.self.Address, "node", p.self.Node, "location", p.self.Location,
		"part", p.self.Part, "samples", len(p.train.labels), "dataset", p.group.Dataset)
	if err := p.catchUp(ctx, log); err != nil {
		return err
	}
	for ctx.Err() == nil {
		if err := p.turn(ctx, log); err != nil {
			return err
		}
	}
	return nil
}

// taken says whether another process that is alive has joined under the same name.
func (p *Peer) taken(ctx context.Context) bool {
	members, _ := p.o.Dir.Members() // what is not readable is nobody
	for _, m := range members {
		if m.Peer == p.self.Peer {
			_, err := p.client.Pull(ctx, m.Address)
			var refusal *gossip.Refusal
			return err == nil || errors.As(err, &refusal)
		}
	}
	return false
}

func (p *Peer) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(p.registry, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.Handle(gossip.Path, gossip.Handler(p.circle))
	mux.HandleFunc("GET /-/healthy", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	return mux
}

// catchUp waits to be listed, for a few seconds, and then begins where the neighbours are instead of with
// the initial model.
func (p *Peer) catchUp(ctx context.Context, log *slog.Logger) error {
	for range 25 {
		if listed, _ := p.circle.refresh(p.o.Dir); listed || !rest(ctx, 200*time.Millisecond) {
			break
		}
	}
	for name, address := range p.circle.choose(p.rng, 8) {
		if _, err := p.client.Pull(ctx, address); err != nil {
			log.Debug("neighbour did not answer", "neighbour", name, "err", err)
		}
	}
	var parts []mlp.Part
	var rounds []uint64
	for _, m := range p.circle.empty() {
		if m.Round == 0 {
			continue
		}
		parts = append(parts, mlp.Part{Weights: m.Weights, Samples: 1})
		rounds = append(rounds, m.Round)
	}
	mlp.Average(p.net.Weights(), parts...)
	if slices.Sort(rounds); len(rounds) > 0 { // the median, so that one liar cannot move it
		p.round = rounds[len(rounds)/2]
	}
	if p.round == 0 {
		return nil
	}
	p.evaluate()
	log.Info("caught up", "round", p.round, "models", len(parts))
	return p.publish()
}

// turn is one round and the rest after it.
func (p *Peer) turn(ctx context.Context, log *slog.Logger) error {
	began, cpu := time.Now(), cpuTime()
	_, err := p.circle.refresh(p.o.Dir)
	if err != nil && !p.blind { // once, not every round
		log.Warn("list of peers not readable: the last one stays in use", "err", err)
	}
	p.blind = err != nil
	if !p.o.Dir.Joined(p.self.Peer) { // we hung for a while and were taken for dead
		if err := p.o.Dir.Join(p.self); err != nil {
			log.Warn("joining again", "err", err)
		}
	}
	p.round++
	loss := p.trainOnce()
	if err := p.publish(); err != nil {
		return err
	}
	met := p.meet(ctx, log)
	merged := p.merge()
	if err := p.publish(); err != nil {
		return err
	}
	accuracy := p.evaluate()
	level := slog.LevelDebug
	if p.round%logEvery == 1 {
		level = slog.LevelInfo
	}
	log.Log(ctx, level, "round", "round", p.round, "loss", loss, "accuracy", accuracy, "neighbours", met, "merged", merged)

	pause := time.Duration(p.group.Interval * float64(time.Second))
	pause = max(pause, time.Duration(float64(cpuTime()-cpu)/p.group.Duty))
	rest(ctx, pause-time.Since(began))
	return nil
}

// trainOnce trains on one small epoch and returns its mean loss.
func (p *Peer) trainOnce() float64 {
	began := time.Now()
	rate := float32(p.group.Rate / (1 + float64(p.round)/p.group.Decay))
	var loss float64
	for range p.group.Epoch {
		i := p.rng.IntN(len(p.train.labels))
		loss += p.net.Step(p.train.x[i], int(p.train.labels[i]), rate)
	}
	p.m.training.Observe(time.Since(began).Seconds())
	p.m.trainings.Inc()
	p.m.round.Set(float64(p.round))
	return loss / float64(p.group.Epoch)
}

// publish shows the model as it is now to whoever asks.
func (p *Peer) publish() error {
	shape := ModelShape()
	frame, err := gossip.Encode(gossip.Model{
		Peer: p.self.Peer, Group: p.self.Group, Round: p.round, Samples: uint64(len(p.train.labels)),
		Shape: shape[:], Weights: p.net.Weights(),
	})
	if err != nil {
		return err
	}
	p.circle.show(frame)
	p.m.lastUpdate.SetToCurrentTime()
	return nil
}

// meet exchanges models with a few neighbours at once and returns the names of those who answered. Their
// models are in the circle's inbox.
func (p *Peer) meet(ctx context.Context, log *slog.Logger) []string {
	var wg sync.WaitGroup
	var mu sync.Mutex
	met := []string{}
	for name, address := range p.circle.choose(p.rng, p.group.Fanout) {
		wg.Go(func() {
			if _, err := p.client.Exchange(ctx, address, p.circle.Current()); err != nil {
				log.Debug("neighbour did not answer", "neighbour", name, "err", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			met = append(met, name)
		})
	}
	wg.Wait()
	return met
}

// merge averages what came in into the model and returns how many models that were. Models of long ago
// would only pull it back; they are refused.
func (p *Peer) merge() int {
	own := float64(len(p.train.labels))
	parts := []mlp.Part{{Weights: p.net.Weights(), Samples: own}}
	for _, m := range p.circle.empty() {
		if m.Round*2+staleRounds < p.round {
			p.m.refused.WithLabelValues(gossip.ReasonStale).Inc()
			continue
		}
		parts = append(parts, mlp.Part{Weights: m.Weights, Samples: min(float64(m.Samples), maxTrust*own)})
	}
	mlp.Average(p.net.Weights(), parts...)
	return len(parts) - 1
}

// evaluate sets the accuracy and loss series and returns the accuracy on the test set.
func (p *Peer) evaluate() float64 {
	p.m.round.Set(float64(p.round))
	train := p.train.head(trainSamples)
	accuracy, loss := p.net.Evaluate(train.x, train.labels)
	p.m.accuracy.WithLabelValues("train").Set(accuracy)
	p.m.loss.WithLabelValues("train").Set(loss)
	accuracy, loss = p.net.Evaluate(p.test.x, p.test.labels)
	p.m.accuracy.WithLabelValues("test").Set(accuracy)
	p.m.loss.WithLabelValues("test").Set(loss)
	return accuracy
}

// rest waits for d, or less when ctx ends: then it returns false.
func rest(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
