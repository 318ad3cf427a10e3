// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package mapping

import (
	"errors"
	"fmt"
	"slices"

	"github.com/periplus-io/periplus/internal/learning"
)

// The names that maps of a mapping file may use; each stands for one series or one field of the model.
func infoNames() []string { return []string{"output_dir", "framework", "url", "format", "node"} }
func timeNames() []string { return []string{"start", "completion", "updated"} }
func gaugeNames() []string {
	return []string{
		"learning_job_train_ratio", "learning_job_knowledge_models", "learning_job_knowledge_classes",
		"learning_job_knowledge_unseen_samples", "learning_job_knowledge_unseen_labeled_samples", "learning_dataset_samples",
	}
}

func parameterNames() []string {
	return []string{"learning_train_learning_rate", "learning_train_epochs", "learning_train_batch_size"}
}

func (m *Mapping) validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, f := range [][2]string{{"version", m.Version}, {"kind", m.Kind}, {"plural", m.Plural}} {
		if f[1] == "" {
			fail("%s is missing", f[0])
		}
	}
	if !slices.Contains([]Role{Job, Dataset, Model, Worker, Node}, m.Role) {
		fail("role %q is none of job, dataset, model, worker, node", m.Role)
	}
	checkKeys(fail, "info", m.Info, infoNames())
	checkKeys(fail, "times", m.Times, timeNames())
	checkKeys(fail, "gauges", m.Gauges, gaugeNames())
	checkKeys(fail, "parameters.names", m.Parameters.Names, parameterNames())
	if m.Role == Job {
		m.validateJob(fail)
	}
	return errors.Join(errs...)
}

func (m *Mapping) validateJob(fail func(string, ...any)) {
	c := m.Conditions
	switch {
	case c.Path.Zero():
		fail("conditions.path is missing")
	case c.Type == "":
		fail("conditions.type is missing")
	case c.Stage == "" && c.In == "":
		fail("conditions need stage or in_stage")
	case len(c.Times) == 0:
		fail("conditions.times is empty")
	}
	stages := []learning.Stage{c.In, m.Rounds.Stage}
	for _, s := range m.Payload.Models {
		stages = append(stages, s.Stage)
	}
	for _, s := range m.Payload.Scores {
		stages = append(stages, s.Stage)
	}
	for _, s := range m.Triggers {
		stages = append(stages, s.Stage)
	}
	for _, s := range stages {
		if s != "" && !slices.Contains(learning.Stages(), s) {
			fail("stage %q is none of %v", s, learning.Stages())
		}
	}
	types := []learning.ConditionType{}
	if m.Rounds.Condition != "" {
		types = append(types, m.Rounds.Condition)
	}
	for _, t := range c.Types {
		types = append(types, t)
	}
	for _, t := range types {
		if !slices.Contains(learning.ConditionTypes(), t) {
			fail("condition %q is none of %v", t, learning.ConditionTypes())
		}
	}
	for _, t := range m.Thresholds {
		if t.Effect != "drop" && t.Effect != "deploy" {
			fail("threshold effect %q is neither drop nor deploy", t.Effect)
		}
	}
}

func checkKeys[V any](fail func(string, ...any), where string, m map[string]V, known []string) {
	for k := range m {
		if !slices.Contains(known, k) {
			fail("%s: %q is none of %v", where, k, known)
		}
	}
}
