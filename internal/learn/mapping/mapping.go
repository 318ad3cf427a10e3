// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package mapping is the knowledge of how a kind of object becomes part of the learning model: one YAML
// file per kind says where its conditions are, what counts as a round, where scores, models,
// parameters and thresholds are found, and by which labels its worker pods are known. The code that
// applies a mapping knows no kind by name.
//
// [Load] reads the shipped files and lets files of a folder replace or add kinds; a fault names file and line.
// docs/learning.md describes the language for people.
package mapping

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/periplus-io/periplus/internal/learning"
	"github.com/periplus-io/periplus/internal/resource"
)

//go:embed kinds/*.yaml
var shipped embed.FS

// Role is what objects of a kind are in the model.
type Role string

// The roles.
const (
	Job     Role = "job"
	Dataset Role = "dataset"
	Model   Role = "model"
	Worker  Role = "worker"
	Node    Role = "node"
)

// Mapping is one file.
type Mapping struct {
	Group   string `yaml:"group"`
	Version string `yaml:"version"`
	Kind    string `yaml:"kind"`
	Plural  string `yaml:"plural"`
	Role    Role   `yaml:"role"`

	Conditions Conditions        `yaml:"conditions"`
	Rounds     Rounds            `yaml:"rounds"`
	Deploy     bool              `yaml:"deploy_status"`
	Payload    Payload           `yaml:"data"`
	Info       map[string]Path   `yaml:"info"`
	Times      map[string]Path   `yaml:"times"`
	Gauges     map[string]Path   `yaml:"gauges"`
	Phase      Phase             `yaml:"phase"`
	Parameters Parameters        `yaml:"parameters"`
	Thresholds []Threshold       `yaml:"thresholds"`
	Triggers   []Trigger         `yaml:"triggers"`
	Samples    Samples           `yaml:"samples"`
	Inference  Inference         `yaml:"inference"`
	Knowledge  Knowledge         `yaml:"knowledge_base"`
	Workers    Workers           `yaml:"workers"`
	Metrics    Path              `yaml:"metrics"`
	Location   map[string]string `yaml:"location"`
}

// Conditions says where the list of conditions is and how an entry is read.
type Conditions struct {
	Path Path `yaml:"path"`
	// Stage is the entry's field that names the stage; a kind without such a field gives one in In.
	Stage string         `yaml:"stage"`
	In    learning.Stage `yaml:"in_stage"`
	Type  string         `yaml:"type"`
	// Types translates other names of conditions.
	Types map[string]learning.ConditionType `yaml:"types"`
	// Times are the fields that may hold the entry's time, best first.
	Times []string `yaml:"times"`
	Data  string   `yaml:"data"`
}

// Rounds says what begins a round: a condition of a stage, or, with Number, the number that a
// condition's message gives.
type Rounds struct {
	Stage     learning.Stage         `yaml:"stage"`
	Condition learning.ConditionType `yaml:"condition"`
	Number    *Pattern               `yaml:"number"`
}

// Pattern is a regular expression with one group.
type Pattern struct{ *regexp.Regexp }

// UnmarshalText compiles the expression.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	if p.Regexp, err = regexp.Compile(string(text)); err == nil && p.NumSubexp() != 1 {
		err = fmt.Errorf("expression %q needs exactly one group", text)
	}
	return err
}

// Payload says what the JSON document of a condition holds.
type Payload struct {
	Models []StageModels `yaml:"models"`
	// Inputs are where a stage's data file and output folder are named.
	DataURL   Path     `yaml:"data_url"`
	OutputDir Path     `yaml:"output_dir"`
	Scores    []Scores `yaml:"scores"`
}

// StageModels is a place where a stage's models are listed; a single model may stand there instead of a list.
type StageModels struct {
	Stage learning.Stage `yaml:"stage"`
	Path  Path           `yaml:"path"`
}

// Scores is a place inside each model of a list where scores stand.
type Scores struct {
	Stage  learning.Stage `yaml:"stage"`
	Models Path           `yaml:"models"`
	Path   Path           `yaml:"path"`
	// Order names the models of the list by position; Model names them all alike.
	Order []string `yaml:"order"`
	Model string   `yaml:"model"`
	// Tasks is set where the last key is the metric and those before it name a task.
	Tasks bool `yaml:"tasks"`
}

// Phase is the one-word state of kinds that have one.
type Phase struct {
	Path   Path     `yaml:"path"`
	Values []string `yaml:"values"`
}

// Parameters says where hyper-parameters are: environments of containers, one or one per training worker.
type Parameters struct {
	// Env leads to the list of environment entries, or to several of them with Each.
	Env Path `yaml:"env"`
	// Each leads to the training workers, Env is then inside each.
	Each Path `yaml:"each"`
	// Names gives for each series the names of environment entries that hold it.
	Names map[string][]string `yaml:"names"`
}

// Threshold is a decision by score. Operator, value and metric stand at paths or in environment entries.
type Threshold struct {
	Effect string `yaml:"effect"`
	// In must exist for the threshold to exist.
	In Path `yaml:"in"`
	// Env leads to a list of environment entries in which the next three are names; without it they are paths.
	Env      Path   `yaml:"env"`
	Operator []Path `yaml:"operator"`
	Value    []Path `yaml:"value"`
	Metric   []Path `yaml:"metric"`
	// Default is used where nothing is said.
	Default *ThresholdDefault `yaml:"default"`
}

// ThresholdDefault is what holds where an object says nothing.
type ThresholdDefault struct {
	Operator string  `yaml:"operator"`
	Value    float64 `yaml:"value"`
	// Unknown replaces an operator that is none.
	Unknown string `yaml:"unknown_operator"`
}

// Trigger is where it is said when a stage begins.
type Trigger struct {
	Stage learning.Stage `yaml:"stage"`
	Path  Path           `yaml:"path"`
}

// Samples says which dataset a job learns from and how it is split.
type Samples struct {
	Dataset    Path `yaml:"dataset"`
	TrainRatio Path `yaml:"train_ratio"`
}

// Inference names the counters of a joint inference service in a list of key and value.
type Inference struct {
	Path        Path   `yaml:"path"`
	Total       string `yaml:"total"`
	Hard        string `yaml:"hard"`
	UploadRatio string `yaml:"upload_ratio"`
}

// Knowledge says where a job's object describes its knowledge base.
type Knowledge struct {
	Classes Path `yaml:"classes"`
	Models  Path `yaml:"models"`
	ID      Path `yaml:"id"`
	// Scores are fields of a model's entry that are scores.
	Scores  []string `yaml:"scores"`
	Samples Path     `yaml:"samples"`
}

// Workers says by which labels the worker pods of a kind are known and what their types do.
type Workers struct {
	Name string `yaml:"name_label"`
	UID  string `yaml:"uid_label"`
	Type string `yaml:"type_label"`
	// Work gives training or infering for each worker type.
	Work map[string]string `yaml:"work"`
	// NameEnv and KnowledgeEnv are environment entries of the pod.
	NameEnv      string `yaml:"name_env"`
	KnowledgeEnv string `yaml:"knowledge_base_env"`
}

// Resource gives the kind as the API server serves it.
func (m *Mapping) Resource() resource.Kind {
	return resource.Kind{Group: m.Group, Version: m.Version, Kind: m.Kind, Plural: m.Plural}
}

// Environment lists the environment variables of containers that the mapping reads.
func (m *Mapping) Environment() []string {
	var out []string
	for _, names := range m.Parameters.Names {
		out = append(out, names...)
	}
	for _, t := range m.Thresholds {
		if t.Env.Zero() {
			continue
		}
		for _, p := range slices.Concat(t.Operator, t.Value, t.Metric) {
			out = append(out, p.String())
		}
	}
	for _, e := range []string{m.Workers.NameEnv, m.Workers.KnowledgeEnv} {
		if e != "" {
			out = append(out, e)
		}
	}
	return out
}

// Set is all mappings, by group and kind.
type Set struct {
	byKind map[string]*Mapping
	jobs   []*Mapping
}

// Jobs gives the mappings of kinds of jobs.
func (s *Set) Jobs() []*Mapping { return s.jobs }

// Find gives the mapping for a kind, or nil.
func (s *Set) Find(k resource.Kind) *Mapping { return s.byKind[k.Group+"/"+k.Kind] }

// All gives the mappings in the order of their kinds.
func (s *Set) All() []*Mapping {
	all := make([]*Mapping, 0, len(s.byKind))
	for _, m := range s.byKind {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *Mapping) int { return strings.Compare(a.Group+"/"+a.Kind, b.Group+"/"+b.Kind) })
	return all
}

// Load reads the shipped mappings and then those of a folder, if dir is not empty: a file for a known kind replaces it.
func Load(dir string) (*Set, error) {
	s := &Set{byKind: map[string]*Mapping{}}
	if err := s.readAll(dir); err != nil {
		return nil, err
	}
	for _, m := range s.All() {
		if m.Role == Job {
			s.jobs = append(s.jobs, m)
		}
	}
	return s, nil
}

func (s *Set) readAll(dir string) error {
	sub, err := fs.Sub(shipped, "kinds")
	if err != nil {
		return err
	}
	if err := s.read(sub, "shipped"); err != nil || dir == "" {
		return err
	}
	return s.read(os.DirFS(dir), dir)
}

func (s *Set) read(files fs.FS, where string) error {
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return fmt.Errorf("read mappings: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); e.IsDir() || (ext != ".yaml" && ext != ".yml") {
			continue
		}
		text, err := fs.ReadFile(files, e.Name())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m, err := Parse(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Join(where, e.Name()), err))
			continue
		}
		s.byKind[m.Group+"/"+m.Kind] = m
	}
	return errors.Join(errs...)
}

// Parse reads one mapping file strictly.
func Parse(text []byte) (*Mapping, error) {
	m := &Mapping{}
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(m); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return m, m.validate()
}
