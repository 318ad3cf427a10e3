// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

// Package learning is the vocabulary of the learning model: jobs, stages, conditions, spans, rounds,
// scores, tasks, workers, peers, datasets, models and knowledge bases. The room that keeps the model fills these types, the
// HTTP dialect encodes them as they stand, and the command line draws them, so a JSON tag here is a
// promise of the documented API: fields are added, never renamed.
//
// Times are UTC. A pointer to a time is nil when nothing says when, and is then absent in JSON. The package has no
// behaviour beyond the order of its own words.
package learning

import "time"

// Stage is one part of a pass through a learning job.
type Stage string

// The stages, in the order in which a job passes through them.
const (
	Train  Stage = "Train"
	Eval   Stage = "Eval"
	Deploy Stage = "Deploy"
)

// Stages lists all stages in their order.
func Stages() []Stage { return []Stage{Train, Eval, Deploy} }

// ConditionType is what a stage is doing.
type ConditionType string

// The conditions, in the order in which a stage passes through them.
const (
	Waiting   ConditionType = "Waiting"
	Ready     ConditionType = "Ready"
	Starting  ConditionType = "Starting"
	Running   ConditionType = "Running"
	Completed ConditionType = "Completed"
	Failed    ConditionType = "Failed"
)

// ConditionTypes lists all conditions in their order.
func ConditionTypes() []ConditionType {
	return []ConditionType{Waiting, Ready, Starting, Running, Completed, Failed}
}

// Condition is one entry of a job's list of conditions as the object gave it.
type Condition struct {
	// Time is the entry's own time, exact to what the object says.
	Time   time.Time     `json:"time"`
	Stage  Stage         `json:"stage"`
	Type   ConditionType `json:"type"`
	Status string        `json:"status"`
	Reason string        `json:"reason,omitempty"`
	// Message is the entry's text, cut at 4 KiB.
	Message string `json:"message,omitempty"`
	// Data is the JSON document the entry carries, as text.
	Data string `json:"data,omitempty"`
}

// Span is one condition of one stage with start and end. A span of Completed or Failed lasts until the
// stage begins again.
type Span struct {
	Stage     Stage         `json:"stage"`
	Condition ConditionType `json:"condition"`
	Round     int           `json:"round"`
	Start     time.Time     `json:"start"`
	// End is absent while the stage is still in this condition.
	End     *time.Time `json:"end,omitempty"`
	Reason  string     `json:"reason,omitempty"`
	Message string     `json:"message,omitempty"`
}

// StageState is where one stage of a job is.
type StageState struct {
	Stage     Stage         `json:"stage"`
	Condition ConditionType `json:"condition"`
	Since     time.Time     `json:"since"`
	// Duration is how many seconds the last finished pass took.
	Duration *float64 `json:"duration_seconds,omitempty"`
}

// Round is one pass through the stages, or one aggregation.
type Round struct {
	Number int       `json:"number"`
	Start  time.Time `json:"start"`
	// End is when the next round began, or the job ended; absent for the current round.
	End *time.Time `json:"end,omitempty"`
	// Stages holds where each stage that took part came to in this round.
	Stages []StageState `json:"stages"`
	// Deploy is Waiting, Ok or NotOk; empty for kinds without a deploy stage.
	Deploy string  `json:"deploy,omitempty"`
	Scores []Score `json:"scores,omitempty"`
	// Models are those the round produced, evaluated or deployed.
	Models []ModelRef `json:"models,omitempty"`
	// Inputs are the data files that the stages of the round were given.
	Inputs []Input `json:"inputs,omitempty"`
}

// Score is one number by which a model was judged.
type Score struct {
	Metric string `json:"metric"`
	// Model is new, old or a model's id.
	Model string `json:"model"`
	Task  string `json:"task,omitempty"`
	// Index is the position in a list of more than one value, as text.
	Index string  `json:"index,omitempty"`
	Value float64 `json:"value"`
}

// ModelRef is a model file named by a condition.
type ModelRef struct {
	Stage  Stage  `json:"stage"`
	URL    string `json:"url"`
	Format string `json:"format,omitempty"`
}

// Input is the data a stage was given.
type Input struct {
	Stage     Stage  `json:"stage"`
	DataURL   string `json:"data_url,omitempty"`
	OutputDir string `json:"output_dir,omitempty"`
}

// Counts is how many of something are active, and how many there are.
type Counts struct {
	Active int `json:"active"`
	Total  int `json:"total"`
}

// Job is one learning workload, as a row of the table of jobs.
type Job struct {
	UID       string     `json:"uid"`
	Namespace string     `json:"namespace"`
	Kind      string     `json:"kind"`
	Name      string     `json:"name"`
	Created   time.Time  `json:"created"`
	Started   *time.Time `json:"started,omitempty"`
	Completed *time.Time `json:"completed,omitempty"`
	// Deleted is when the hub noticed that the object was gone.
	Deleted *time.Time `json:"deleted,omitempty"`
	// Stage and Condition are the newest; empty before the first condition.
	Stage     Stage         `json:"stage,omitempty"`
	Condition ConditionType `json:"condition,omitempty"`
	Since     *time.Time    `json:"since,omitempty"`
	// Status is True, False or Unknown as the newest condition reports it.
	Status string       `json:"status"`
	Phase  string       `json:"phase,omitempty"`
	Round  int          `json:"round"`
	Stages []StageState `json:"stages"`
	Deploy string       `json:"deploy,omitempty"`
	// Score is the first score of the newest evaluation.
	Score   *Score `json:"score,omitempty"`
	Dataset string `json:"dataset,omitempty"`
	// Samples is the size of the dataset, where its object says so.
	Samples *float64 `json:"samples,omitempty"`
	Workers Counts   `json:"workers"`
	Tasks   Counts   `json:"tasks"`
	Nodes   []string `json:"nodes,omitempty"`
	// Message is the newest condition's text.
	Message string `json:"message,omitempty"`
	// Changed is the time of the newest change that is known.
	Changed time.Time `json:"changed"`
	// Conditions is how many conditions have been seen.
	Conditions int `json:"conditions"`
}

// JobDetail is everything that is known about one job.
type JobDetail struct {
	Job
	OutputDir string `json:"output_dir,omitempty"`
	// Why says in words why the job is where it is, where that can be derived.
	Why        []string    `json:"why,omitempty"`
	Spans      []Span      `json:"spans"`
	Rounds     []Round     `json:"rounds"`
	History    []Condition `json:"history"`
	Scores     []Score     `json:"scores"`
	Parameters []Parameter `json:"parameters,omitempty"`
	Thresholds []Threshold `json:"thresholds,omitempty"`
	Triggers   []Trigger   `json:"triggers,omitempty"`
	Tasks      []Task      `json:"task_list"`
	Workers    []Worker    `json:"worker_list"`
	Datasets   []Dataset   `json:"datasets,omitempty"`
	Models     []ModelRef  `json:"models,omitempty"`
	// KnowledgeBase is absent for jobs without one.
	KnowledgeBase *KnowledgeBase `json:"knowledge_base,omitempty"`
	Inference     *Inference     `json:"inference,omitempty"`
}

// Parameter is a hyper-parameter of the training.
type Parameter struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	// Template is the training worker it belongs to, where there are several.
	Template string `json:"worker_template,omitempty"`
}

// Threshold decides about a model by its score.
type Threshold struct {
	Metric   string `json:"metric"`
	Operator string `json:"operator,omitempty"`
	// Effect is drop or deploy: what happens to a model whose score satisfies the operator.
	Effect string  `json:"effect"`
	Value  float64 `json:"value"`
}

// Trigger says when a stage begins.
type Trigger struct {
	Stage    Stage  `json:"stage"`
	Metric   string `json:"metric,omitempty"`
	Operator string `json:"operator,omitempty"`
	// Threshold is absent where only a timer is given.
	Threshold *float64 `json:"threshold,omitempty"`
	// From and To bound the time of day, such as 02:00 and 24:00.
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
	// CheckPeriod is in seconds.
	CheckPeriod float64 `json:"check_period_seconds,omitempty"`
}

// Task is one execution of work for a job: a worker pod's life.
type Task struct {
	Name     string `json:"name"`
	Work     string `json:"work,omitempty"`
	Location string `json:"location,omitempty"`
	// Status is active or dead.
	Status   string     `json:"status"`
	Start    time.Time  `json:"start"`
	End      *time.Time `json:"end,omitempty"`
	Duration float64    `json:"duration_seconds"`
	Node     string     `json:"node,omitempty"`
}

// Worker is a pod that does a stage's work.
type Worker struct {
	Pod  string `json:"pod"`
	UID  string `json:"uid"`
	Name string `json:"worker_name,omitempty"`
	Type string `json:"worker_type,omitempty"`
	Node string `json:"node,omitempty"`
	// Location is edge or cloud; empty while the node is not known.
	Location string `json:"location,omitempty"`
	// Status is waiting, active or dead.
	Status   string `json:"status"`
	Restarts int    `json:"restarts"`
	// Reason says why it does not run, in the words of the kubelet or scheduler.
	Reason  string     `json:"reason,omitempty"`
	Started *time.Time `json:"started,omitempty"`
}

// Peer is a participant of decentralised or federated learning.
type Peer struct {
	Name     string     `json:"name"`
	Group    string     `json:"group,omitempty"`
	Address  string     `json:"address,omitempty"`
	Node     string     `json:"node,omitempty"`
	Location string     `json:"location,omitempty"`
	LastSeen *time.Time `json:"last_seen,omitempty"`
}

// Dataset is a set of samples that jobs learn from.
type Dataset struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	URL       string     `json:"url,omitempty"`
	Format    string     `json:"format,omitempty"`
	Node      string     `json:"node,omitempty"`
	Samples   *float64   `json:"samples,omitempty"`
	Updated   *time.Time `json:"updated,omitempty"`
	// Jobs are those that name it, as kind/name, in the same namespace.
	Jobs []string `json:"jobs,omitempty"`
}

// Model is a model object with what it reports of itself.
type Model struct {
	Namespace string        `json:"namespace"`
	Name      string        `json:"name"`
	URL       string        `json:"url,omitempty"`
	Format    string        `json:"format,omitempty"`
	Updated   *time.Time    `json:"updated,omitempty"`
	Metrics   []ModelMetric `json:"metrics,omitempty"`
}

// ModelMetric is one entry of a model's own metrics: a number, or a text where it is none.
type ModelMetric struct {
	Key   string   `json:"key"`
	Index string   `json:"index,omitempty"`
	Value *float64 `json:"value,omitempty"`
	Text  string   `json:"text,omitempty"`
}

// KnowledgeBase is what a job's object and workers say about the knowledge base it uses.
type KnowledgeBase struct {
	Address  string `json:"address,omitempty"`
	Node     string `json:"node,omitempty"`
	NodeType string `json:"node_type,omitempty"`
	// The counts are absent where the object does not give them.
	Models               *float64         `json:"models,omitempty"`
	Classes              *float64         `json:"classes,omitempty"`
	UnseenSamples        *float64         `json:"unseen_samples,omitempty"`
	UnseenLabeledSamples *float64         `json:"unseen_labeled_samples,omitempty"`
	ClassNames           []string         `json:"class_names,omitempty"`
	ModelList            []KnowledgeModel `json:"model_list,omitempty"`
}

// KnowledgeModel is one model of a knowledge base.
type KnowledgeModel struct {
	ID      string   `json:"id"`
	Metric  string   `json:"metric,omitempty"`
	Score   *float64 `json:"score,omitempty"`
	Samples *float64 `json:"samples,omitempty"`
}

// Inference counts what a joint inference service has answered.
type Inference struct {
	Edge        *float64 `json:"edge_samples,omitempty"`
	Cloud       *float64 `json:"cloud_samples,omitempty"`
	Hard        *float64 `json:"hard_samples,omitempty"`
	UploadRatio *float64 `json:"upload_ratio,omitempty"`
}
