package sandbox

import (
	"time"
)

// makeAssistant is https://docs.vapi.ai/api-reference/assistants/create.
func makeAssistant(v *Vapi, c *changes, in *vapiAsked) (any, error) {
	if err := in.hold(assistantShape); err != nil {
		return nil, err
	}
	r := v.add(c, v.assistantTable(), in.body)
	v.made(c, countAssistants)
	return v.view(r), nil
}

// fetchAssistant is https://docs.vapi.ai/api-reference/assistants/get.
func fetchAssistant(v *Vapi, _ *changes, in *vapiAsked) (any, error) {
	r, err := v.assistantTable().find(in.id)
	if err != nil {
		return nil, err
	}
	return v.view(r), nil
}

// listAssistants is https://docs.vapi.ai/api-reference/assistants/list.
func listAssistants(v *Vapi, _ *changes, in *vapiAsked) (any, error) {
	return v.listRows(v.assistantTable(), in)
}

// changeAssistant is https://docs.vapi.ai/api-reference/assistants/update.
func changeAssistant(v *Vapi, c *changes, in *vapiAsked) (any, error) {
	r, err := v.assistantTable().find(in.id)
	if err == nil {
		err = in.hold(assistantShape)
	}
	if err != nil {
		return nil, err
	}
	v.patch(c, v.assistantTable(), r, in.body)
	return v.view(r), nil
}

// deleteAssistant is https://docs.vapi.ai/api-reference/assistants/delete. One that a phone number names is pinned and
// is not deleted: Vapi documents the answer, not all that pins, so whoever unlinks first is right in both places.
func deleteAssistant(v *Vapi, c *changes, in *vapiAsked) (any, error) {
	r, err := v.assistantTable().find(in.id)
	if err != nil {
		return nil, err
	}
	for _, n := range v.numberOrder {
		if n.Deleted == 0 && n.text("assistantId") == r.ID {
			return nil, vapiPinned("Assistant %s is pinned by phone number %s.", r.ID, n.ID)
		}
	}
	v.drop(c, v.assistantTable(), r)
	return v.view(r), nil
}

// BookedAssistant is an assistant as the books show it, there now or once.
type BookedAssistant struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	// Deleted is zero while it is there.
	Deleted time.Time `json:"deleted,omitzero"`
}

func (r *vapiRow) bookedAssistant() BookedAssistant {
	b := BookedAssistant{ID: r.ID, Name: r.text("name"), Created: time.Unix(0, r.Created).UTC()}
	if r.Deleted != 0 {
		b.Deleted = time.Unix(0, r.Deleted).UTC()
	}
	return b
}
