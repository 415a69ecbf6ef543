package telephony

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// WebhookPath is where Vapi's messages come to.
const WebhookPath = "/api/webhooks/vapi"

// VapiEvents says how Vapi reaches us, for assistants and phone numbers alike.
type VapiEvents struct {
	// BaseURL is our own address as Vapi sees it.
	BaseURL string
	// Secret is what Vapi shows as bearer with every message.
	Secret string
	// CredentialID names a bearer credential that was made in Vapi's dashboard and holds the secret
	// (https://docs.vapi.ai/server-url/server-authentication). Where it is empty the secret is sent along as a header that
	// Vapi is to use, and stands in the assistant's own settings.
	CredentialID string
}

// vapiServer is where Vapi sends its messages.
type vapiServer struct {
	URL          string            `json:"url"`
	CredentialID string            `json:"credentialId,omitempty"`
	Headers      map[string]string `json:"headers,omitempty"`
	Timeout      int               `json:"timeoutSeconds"`
	// Vapi does not come again unless it is told to. What still does not arrive is asked for by the sweeper.
	Backoff *vapiBackoff `json:"backoffPlan,omitempty"`
}

type vapiBackoff struct {
	Type       string `json:"type"`
	MaxRetries int    `json:"maxRetries"`
	Base       int    `json:"baseDelaySeconds"`
	// Except are the answers after which it does not come again: it would be told the same.
	Except []int `json:"excludedStatusCodes,omitempty"`
}

// server is what Vapi is told about us; nil where messages cannot reach us.
func (e VapiEvents) server() *vapiServer {
	if e.BaseURL == "" || e.Secret == "" {
		return nil
	}
	s := &vapiServer{URL: e.BaseURL + WebhookPath, CredentialID: e.CredentialID, Timeout: 20, Backoff: &vapiBackoff{
		Type: "exponential", MaxRetries: 5, Base: 1, Except: []int{http.StatusBadRequest, http.StatusNotFound, http.StatusRequestEntityTooLarge},
	}}
	if e.CredentialID == "" {
		s.Headers = map[string]string{"Authorization": "Bearer " + e.Secret}
	}
	return s
}

// vapiAssistant is an assistant at Vapi (https://docs.vapi.ai/api-reference/assistants/create).
type vapiAssistant struct {
	Name           string            `json:"name"`
	FirstMessage   string            `json:"firstMessage"`
	Model          vapiModel         `json:"model"`
	Voice          vapiVoice         `json:"voice"`
	MaxDuration    int64             `json:"maxDurationSeconds"`
	Server         *vapiServer       `json:"server,omitempty"`
	ServerMessages []string          `json:"serverMessages"`
	Metadata       map[string]string `json:"metadata"`
	Artifacts      vapiArtifactPlan  `json:"artifactPlan"`
	Monitor        vapiMonitorPlan   `json:"monitorPlan"`
}

type vapiModel struct {
	Provider string           `json:"provider"`
	Model    string           `json:"model"`
	Messages []vapiModelWords `json:"messages"`
	// Tools is never left out: an empty list takes those away that were there.
	Tools []vapiTool `json:"tools"`
}

type vapiModelWords struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type vapiVoice struct {
	Provider string `json:"provider"`
	VoiceID  string `json:"voiceId"`
}

// vapiTool is something that an assistant can do besides speaking.
type vapiTool struct {
	Type         string            `json:"type"`
	Function     *vapiFunction     `json:"function,omitempty"`
	Destinations []vapiDestination `json:"destinations,omitempty"`
}

type vapiFunction struct {
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Parameters  json.RawMessage `json:"parameters"`
}

type vapiDestination struct {
	Type        string `json:"type"`
	Number      string `json:"number"`
	CallerID    string `json:"callerId"`
	Description string `json:"description"`
}

type vapiArtifactPlan struct {
	Recording bool `json:"recordingEnabled"`
}

type vapiMonitorPlan struct {
	Listen  bool `json:"listenEnabled"`
	Control bool `json:"controlEnabled"`
}

// createAssistant makes an assistant, once asked.
func (v *vapi) createAssistant(ctx context.Context, a vapiAssistant) (id string, err error) {
	var made struct {
		ID string `json:"id"`
	}
	if err := v.do(ctx, http.MethodPost, "/assistant", a, &made); err != nil {
		return "", err
	}
	if made.ID == "" {
		return "", &failure{provider: "Vapi", status: http.StatusCreated} // as good as no answer
	}
	return made.ID, nil
}

// changeAssistant makes an assistant what a says. It is safe to repeat.
func (v *vapi) changeAssistant(ctx context.Context, id string, a vapiAssistant) error {
	return v.do(ctx, http.MethodPatch, "/assistant/"+url.PathEscape(id), a, nil)
}

// deleteAssistant removes an assistant. One that is not there is removed already.
func (v *vapi) deleteAssistant(ctx context.Context, id string) error {
	err := v.do(ctx, http.MethodDelete, "/assistant/"+url.PathEscape(id), nil, nil)
	if gone(err) {
		return nil
	}
	return err
}

// pinned reports whether Vapi keeps an assistant as it is since something of Vapi's needs it. It says so in other words than
// it refuses everything else ({"error":"assistant_pinned"}).
func pinned(err error) bool {
	f, ok := errors.AsType[*failure](err)
	return ok && f.status == http.StatusConflict
}

// findAssistants gives the ids of the assistants that were made for an agent since a moment: one, none, or after a lost
// answer more than one. whole is false when Vapi's list may have more.
func (v *vapi) findAssistants(ctx context.Context, agent string, since time.Time) (ids []string, whole bool, err error) {
	type listed struct {
		ID       string            `json:"id"`
		Metadata map[string]string `json:"metadata"`
	}
	query := url.Values{"limit": {strconv.Itoa(vapiPage)}, "createdAtGe": {since.UTC().Format(time.RFC3339)}}
	list, err := reading(func() (list []json.RawMessage, err error) {
		return list, v.do(ctx, http.MethodGet, "/assistant?"+query.Encode(), nil, &list)
	})
	if err != nil {
		return nil, false, err
	}
	for _, one := range list {
		var a listed
		if json.Unmarshal(one, &a) == nil && a.ID != "" && a.Metadata[metaAgent] == agent { // others' metadata may be anything
			ids = append(ids, a.ID)
		}
	}
	return ids, len(list) < vapiPage, nil
}

// The names in Vapi's metadata under which our own ids stand.
const (
	metaAgent = "ringfence_agent"
	metaCall  = "ringfence_call"
)
