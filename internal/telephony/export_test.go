package telephony

import "context"

// Queue is the first step of Send alone, as if the process had died after it.
func (s *Messages) Queue(ctx context.Context, r SendRequest) (Message, error) {
	d, err := s.Draft(r)
	if err != nil {
		return Message{}, err
	}
	return s.queue(ctx, r, d)
}

// Take is the second step alone: in flight, and Twilio not asked.
func (s *Messages) Take(ctx context.Context, m Message) error { return s.take(ctx, m) }
