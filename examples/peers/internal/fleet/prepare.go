// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/periplus-io/periplus/examples/peers/internal/deal"
	"github.com/periplus-io/periplus/examples/peers/internal/gossip"
	"github.com/periplus-io/periplus/examples/peers/internal/idx"
	"github.com/periplus-io/periplus/examples/peers/internal/mlp"
	"github.com/periplus-io/periplus/examples/peers/internal/peer"
	"github.com/periplus-io/periplus/examples/peers/internal/roster"
)

// How the group learns at speed 1. On Fashion-MNIST eight peers pass 60 % within a minute and go on improving
// for a quarter of an hour.
const (
	rate     = 0.01
	decay    = 400
	epoch    = 64
	interval = 2.0
	duty     = 0.06
	fanout   = 2

	fashion   = "fashion-mnist"
	generated = "generated"

	madeUpTrain = 12000
	madeUpTest  = 2000
)

// prepare fills the group's folder: settings, initial model, and the parts of the data.
func prepare(o Options, log *slog.Logger) (roster.Group, error) {
	g := roster.Group{
		Group: o.Group, Dataset: fashion, Data: o.Data, Parts: o.Peers + o.Spare, Seed: o.Seed,
		Rate: rate, Decay: decay, Epoch: epoch, Interval: interval / o.Speed, Duty: min(1, duty*o.Speed), Fanout: fanout,
	}
	var err error
	if g.Data, err = filepath.Abs(o.Data); err != nil { // peers may be started elsewhere
		return g, err
	}
	labelsPath, err := deal.Find(g.Data, deal.TrainLabels)
	if err != nil {
		if labelsPath, err = makeUp(&g, o, log); err != nil {
			return g, err
		}
	}
	labels, err := idx.ReadBytes(labelsPath)
	if err != nil {
		return g, err
	}
	parts, err := deal.Dirichlet(labels, g.Parts, o.Alpha, o.Seed)
	if err != nil {
		return g, err
	}
	shape := peer.ModelShape()
	initial, err := gossip.Encode(gossip.Model{
		Peer: "initial", Group: g.Group, Shape: shape[:], Weights: mlp.New(shape, o.Seed).Weights(),
	})
	if err != nil {
		return g, err
	}
	log.Info("data dealt", "dataset", g.Dataset, "data", g.Data, "samples", len(labels), "parts", g.Parts, "alpha", o.Alpha)
	return g, o.Dir.Create(g, initial, deal.EncodeParts(parts))
}

// makeUp generates a data set in the group's folder and says so.
func makeUp(g *roster.Group, o Options, log *slog.Logger) (labelsPath string, err error) {
	log.Warn("NO REAL DATA SET FOUND: the peers learn from generated images, accuracies mean little; install the package dataset-fashion-mnist, or name a folder of IDX files with --data",
		"looked_in", g.Data)
	dir, err := filepath.Abs(filepath.Join(string(o.Dir), "generated"))
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	g.Dataset, g.Data = generated, dir
	if err := deal.Generate(dir, o.Seed, madeUpTrain, madeUpTest); err != nil {
		return "", fmt.Errorf("generate data set: %w", err)
	}
	return deal.Find(dir, deal.TrainLabels)
}
