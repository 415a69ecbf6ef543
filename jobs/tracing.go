package jobs

import (
	"context"
	"encoding/json"

	"github.com/riverqueue/river"
	"github.com/riverqueue/river/rivertype"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// carrying has jobs carry the trace of whoever adds them in their metadata, as W3C's traceparent
// (https://www.w3.org/TR/trace-context/), so that job and cause are one trace, in whichever process it is worked.
type carrying struct {
	river.JobInsertMiddlewareDefaults
}

// InsertMany implements rivertype.JobInsertMiddleware.
func (carrying) InsertMany(ctx context.Context, jobs []*rivertype.JobInsertParams, insert func(context.Context) ([]*rivertype.JobInsertResult, error)) ([]*rivertype.JobInsertResult, error) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return insert(ctx)
	}
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	for _, j := range jobs {
		metadata := map[string]json.RawMessage{}
		if len(j.Metadata) > 0 && json.Unmarshal(j.Metadata, &metadata) != nil {
			continue // not ours to judge; the job matters more than its trace
		}
		for name, value := range carrier {
			text, err := json.Marshal(value)
			if err != nil {
				continue
			}
			metadata[name] = text
		}
		if with, err := json.Marshal(metadata); err == nil {
			j.Metadata = with
		}
	}
	return insert(ctx)
}

// following has each job be a span of the trace that its metadata names, or of a new one.
type following struct {
	river.WorkerMiddlewareDefaults

	tracer trace.Tracer
}

// Work implements rivertype.WorkerMiddleware.
func (f *following) Work(ctx context.Context, job *rivertype.JobRow, work func(context.Context) error) error {
	var metadata struct {
		Parent string `json:"traceparent"`
		State  string `json:"tracestate"`
	}
	if json.Unmarshal(job.Metadata, &metadata) == nil {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": metadata.Parent, "tracestate": metadata.State})
	}
	ctx, span := f.tracer.Start(ctx, "job "+job.Kind, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.Int64("ringfence.job.id", job.ID), attribute.String("ringfence.job.kind", job.Kind),
		attribute.String("ringfence.job.queue", job.Queue), attribute.Int("ringfence.job.attempt", job.Attempt)))
	defer span.End()
	err := work(ctx)
	if err != nil && came(job, err) != "put_off" {
		span.SetStatus(codes.Error, "")
	}
	return err
}
