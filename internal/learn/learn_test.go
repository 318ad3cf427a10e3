// Copyright The Periplus Authors
// SPDX-License-Identifier: Apache-2.0

package learn_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLifelongJobBecomesHistory(t *testing.T) {
	sink := newRecorded()
	h := start(t, t.TempDir(), sink)
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	h.apply(kind("LifelongLearningJob"), objects(t, "lifelong.yaml")[0], at, true)
	h.settled()
	const job = `job_kind="LifelongLearningJob", job_name="atcii-classifier", `
	got := sink.changes(`{__name__="learning_job_stage_condition", condition="Ready", ` + job + `namespace="factory", stage="Deploy"}`)
	want := []string{"0@2026-11-20T09:12:00.001", "1@2026-11-20T09:12:30.000", "0@2026-11-20T09:12:30.001"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	got = sink.changes(`{__name__="learning_job_round", ` + job + `namespace="factory"}`)
	want = []string{"1@2026-11-20T08:00:01.000", "2@2026-11-20T09:12:31.000"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
