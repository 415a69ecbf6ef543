package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	"ringfence/internal/audit"
	"ringfence/internal/fault"
	"ringfence/internal/operations"
	"ringfence/views"
)

const (
	jobsPath = "/ops/jobs"
	// JobPagesPath is where River's own pages are.
	JobPagesPath = jobsPath + "/river"
	riverPath    = JobPagesPath + "/"
	// riverPolicy is the content security policy of River's pages: ours, but for styles that their scripts write into elements.
	riverPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
		"form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
)

// opsJobs lists jobs: without a choice those that somebody may have to look at.
func (a *app) opsJobs(w http.ResponseWriter, r *http.Request, v *visit) error {
	q := r.URL.Query()
	states := []operations.JobState{operations.JobDiscarded, operations.JobRetryable}
	if chosen := operations.JobState(q.Get("state")); chosen != "" {
		if !slices.Contains(operations.JobStates(), chosen) {
			return errNoPage()
		}
		states = []operations.JobState{chosen}
	}
	before, err := auditPlace(q.Get("before"))
	if err != nil {
		return err
	}
	list, more, err := a.Operations.Jobs(r.Context(), states, before)
	if err != nil {
		return err
	}
	p := views.JobsPage{Meta: a.meta(r, v, "Jobs"), State: q.Get("state"), First: before == 0, River: a.JobPages != nil}
	for _, s := range operations.JobStates() {
		p.States = append(p.States, string(s))
	}
	for _, j := range list {
		p.Jobs = append(p.Jobs, shownJob(j))
	}
	if more {
		p.Next = p.Jobs[len(p.Jobs)-1].ID
	}
	return a.render(w, r, http.StatusOK, views.Jobs(p))
}

func shownJob(j operations.Job) views.Job {
	shown := views.Job{
		ID: strconv.FormatInt(j.ID, 10), Kind: j.Kind, Queue: j.Queue, State: string(j.State), Attempt: j.Attempt, MaxAttempts: j.MaxAttempts,
		CreatedAt: j.CreatedAt, ScheduledAt: j.ScheduledAt, LastError: j.LastError, Retriable: j.State.Retriable(), Cancellable: j.State.Cancellable(),
	}
	if j.FinalizedAt != nil {
		shown.EndedAt = *j.FinalizedAt
	}
	return shown
}

// opsJob is one with what its tries met.
func (a *app) opsJob(w http.ResponseWriter, r *http.Request, v *visit) error {
	p := views.JobPage{}
	switch r.URL.Query().Get("done") {
	case "retried":
		p.Notice = "It is tried again now."
	case "cancelled":
		p.Notice = "It was cancelled."
	}
	return a.showJob(w, r, v, http.StatusOK, p)
}

func (a *app) showJob(w http.ResponseWriter, r *http.Request, v *visit, status int, p views.JobPage) error {
	id, err := auditPlace(r.PathValue("id"))
	if err != nil {
		return err
	}
	j, err := a.Operations.Job(r.Context(), id)
	if err != nil {
		return err
	}
	p.Meta, p.Job = a.meta(r, v, j.Kind), shownJob(j)
	p.Meta.Path = jobsPath + "/" + p.Job.ID
	var b bytes.Buffer
	if json.Indent(&b, j.Args, "", "  ") == nil {
		p.Args = b.String()
	}
	var tries []views.JobError
	if err := json.Unmarshal(j.Errors, &tries); err == nil {
		slices.Reverse(tries)
		p.Errors = tries
	}
	return a.render(w, r, status, views.JobForOps(p))
}

// retryJob has a job tried at once.
func (a *app) retryJob(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.decideJob(w, r, v, "retried", a.Operations.RetryJob)
}

// cancelJob has a job not be worked any more.
func (a *app) cancelJob(w http.ResponseWriter, r *http.Request, v *visit) error {
	return a.decideJob(w, r, v, "cancelled", a.Operations.CancelJob)
}

func (a *app) decideJob(w http.ResponseWriter, r *http.Request, v *visit, done string, decide func(context.Context, int64, audit.Actor, string) error) error {
	id, err := auditPlace(r.PathValue("id"))
	if err != nil {
		return err
	}
	err = decide(r.Context(), id, v.who.Actor(), r.PostForm.Get("reason"))
	wrong := fault.As(err)
	switch {
	case err == nil:
		http.Redirect(w, r, jobsPath+"/"+strconv.FormatInt(id, 10)+"?done="+done, http.StatusSeeOther)
		return nil
	case wrong.Field == "reason":
		return a.showJob(w, r, v, answerTo(wrong.Kind).status, views.JobPage{Reason: typed(r.PostForm.Get("reason")), Error: wrong.Public})
	case wrong.Kind == fault.Conflict:
		return a.showJob(w, r, v, answerTo(wrong.Kind).status, views.JobPage{Problem: wrong.Public})
	}
	return err
}

// riverPages are River's own pages. They post without a token or a reason of ours, so they are for reading: what they would
// change answers 405, and is done from a job's page here.
func (a *app) riverPages(w http.ResponseWriter, r *http.Request, _ *visit) error {
	if a.JobPages == nil {
		return errNoPage()
	}
	w.Header().Set("Content-Security-Policy", riverPolicy)
	a.JobPages.ServeHTTP(w, r)
	return nil
}
