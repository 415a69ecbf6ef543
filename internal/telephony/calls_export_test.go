package telephony

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// Queue is the first step of Place alone, as if the process had died after it.
func (s *Calls) Queue(ctx context.Context, r PlaceRequest) (Call, error) { return s.queue(ctx, r) }

// Take is the second step alone: in flight, and Vapi not asked.
func (s *Calls) Take(ctx context.Context, c Call) error {
	_, err := s.take(ctx, c)
	return err
}

// Playable is playable.
func (s *Calls) Playable(address string) string { return s.playable(address) }

// Controllable reports whether an address at which a call is commanded may be asked.
func (s *Calls) Controllable(address string) bool { return s.vapi.controllable(address) }

// CostMicros is costMicros.
func CostMicros(raw string) (micros int64, said bool) {
	n := costMicros([]byte(raw))
	if n == nil {
		return 0, false
	}
	return *n, true
}

// CallLength is how many seconds a call is charged.
func CallLength(started, ended time.Time) int64 { return length(started, ended) }

// TakeAgent is the first step of Sync alone, as if the process had died after it.
func (s *Agents) TakeAgent(ctx context.Context, org, id uuid.UUID) error {
	_, _, err := s.takeAgent(ctx, org, id)
	return err
}
