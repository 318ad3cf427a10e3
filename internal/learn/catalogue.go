// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn

import (
	"slices"
	"strings"

	"github.com/periplus-io/periplus/internal/learning"
)

// Metadata lists every series name that the model writes, with type, unit, help and labels. Help begins with the
// name in the reference list, so that people who know that name find it.
func Metadata() []learning.Metric {
	var out []learning.Metric
	for _, line := range catalogue() {
		m := learning.Metric{Name: line[0], Type: "gauge", Unit: unitOf(line[0]), Help: line[2], Labels: strings.Fields(line[1])}
		if strings.HasSuffix(m.Name, "_total") {
			m.Type = "counter"
		}
		if i := slices.Index(m.Labels, "J"); i >= 0 {
			m.Labels = append(slices.Delete(m.Labels, i, i+1), "namespace", "job_kind", "job_name")
		}
		slices.Sort(m.Labels)
		out = append(out, m)
	}
	return out
}

func unitOf(name string) string {
	for _, unit := range []string{"seconds", "ratio"} {
		if strings.HasSuffix(name, "_"+unit) {
			return unit
		}
	}
	return ""
}

// catalogue holds name, labels and help; J stands for the three labels that name a job.
func catalogue() [][3]string {
	return [][3]string{
		{"learning_job_status", "J status", "JobStatus: 1 for the status that the newest condition reports, Unknown without conditions."},
		{"learning_job_stage_condition", "J stage condition", "StageConditionStatus: 1 for the newest condition of each stage."},
		{"learning_job_stage", "J stage", "LearningStage: 1 for the stage of the newest condition."},
		{"learning_job_info", "J uid dataset output_dir framework", "What the job's object says about itself."},
		{"learning_job_created_seconds", "J", "Unix time at which the job was created."},
		{"learning_job_start_time_seconds", "J", "Unix time at which the job started."},
		{"learning_job_completion_time_seconds", "J", "Unix time at which the job completed."},
		{"learning_job_round", "J", "Current round, from 1: passes begun, or aggregations."},
		{"learning_job_stage_transitions_total", "J stage condition", "How often the stage came into the condition."},
		{"learning_job_stage_duration_seconds", "J stage", "How long the last finished pass of the stage took, from Starting, else Ready."},
		{"learning_job_stage_since_seconds", "J stage", "Unix time at which the stage came into its condition."},
		{"learning_job_conditions", "J", "Conditions seen, duplicates folded."},
		{"learning_job_phase", "J phase", "1 for the phase of a federated job."},
		{"learning_dataset_samples", "namespace dataset", "NumberOfSamples: samples in the dataset."},
		{"learning_job_stage_samples", "J stage dataset estimated", "StageTrainNumber, StageEvalNumber, TrainSampleNum, EvalSampleNum: samples of the stage; estimated from the dataset's size and split."},
		{"learning_job_train_ratio", "J", "Share of the dataset that is used for training."},
		{"learning_dataset_info", "namespace dataset url format node", "Where the dataset is."},
		{"learning_dataset_updated_seconds", "namespace dataset", "Unix time of the dataset's last update."},
		{"learning_model_metric", "namespace model key index", "Key: a number that the model reports of itself."},
		{"learning_model_metric_info", "namespace model key value", "Key: a value that is no number."},
		{"learning_model_info", "namespace model url format", "Where the model is."},
		{"learning_job_tasks_active", "J", "ActiveTasksNumber: tasks that run."},
		{"learning_job_tasks", "J", "TotalTasksNumber: tasks seen, ended ones too."},
		{"learning_task_info", "J task location work status", "TasksInfo: a worker pod's life."},
		{"learning_task_start_time_seconds", "J task", "TasksInfo.startTime: Unix time at which the task began."},
		{"learning_task_duration_seconds", "J task", "TasksInfo.duration: how long the task has taken."},
		{"learning_job_workers_active", "J location worker_type", "ActiveWorkersNumber: workers that run."},
		{"learning_job_workers", "J location worker_type", "TotalWorkerNumber: workers that exist."},
		{"learning_worker_info", "J worker worker_name worker_type node location status", "WorkersInfo: a worker's pod, name, place and state."},
		{"learning_worker_restarts_total", "J worker", "Restarts of the worker's containers."},
		{"learning_inference_location_samples", "J location", "EdgeInferenceCount, CloudInferenceCount: samples answered at the edge and in the cloud."},
		{"learning_inference_hard_samples", "J", "HardSampleNum, IterationHardSampleNum: samples found hard."},
		{"learning_inference_upload_ratio", "J", "Share of the samples that was sent to the cloud."},
		{"learning_knowledge_base_info", "knowledge_base node node_type", "KBServer, KBServerIP, KBNodeType, KBNodeName: where the knowledge base is."},
		{"learning_job_knowledge_models", "J", "Models in the knowledge base, as the job reports."},
		{"learning_job_knowledge_classes", "J", "Classes in the knowledge base, as the job reports."},
		{"learning_job_knowledge_unseen_samples", "J", "Samples of unknown tasks, as the job reports."},
		{"learning_job_knowledge_unseen_labeled_samples", "J", "Labelled samples of unknown tasks, as the job reports."},
		{"learning_train_learning_rate", "J worker_template", "LearningRate: of the training template."},
		{"learning_train_epochs", "J worker_template", "EpochNum: of the training template."},
		{"learning_train_batch_size", "J worker_template", "BatchSize: of the training template."},
		{"learning_train_model_info", "J url format", "TrainOutputModelUrl: model that training gave."},
		{"learning_eval_score", "J metric model task index", "Score, TaskScore, AccuracyMetricForNewModel, AccuracyMetricForOldModel: by which models were judged."},
		{"learning_eval_threshold", "J metric operator effect", "ModelFilterOperator, Threshold: a model whose score satisfies the operator is dropped, or deployed."},
		{"learning_eval_model_info", "J url format", "EvalModelUrl, EvalNewModelUrl: model that was judged."},
		{"learning_deploy_status", "J status", "DeployStatus: 1 for what the current round came to."},
		{"learning_deploy_model_info", "J url format", "DeployModelUrl: model that is deployed."},
	}
}
