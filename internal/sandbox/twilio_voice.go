package sandbox

import (
	"encoding/xml"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strconv"
	"strings"
)

// voiceDoc is what to do with a call; see https://www.twilio.com/docs/voice/twiml.
type voiceDoc struct {
	// Seconds is how long it takes, in the call's own time; -1 is as long as somebody listens.
	Seconds int `json:"seconds"`
	// Said is what is spoken.
	Said []string `json:"said,omitempty"`
	// Stream is where the sound goes, when it is connected.
	Stream string `json:"stream,omitempty"`
	// Reject is why it is not taken at all: rejected or busy.
	Reject string `json:"reject,omitempty"`
}

// forever is the document of a call that a phone agent holds.
var forever = voiceDoc{Seconds: -1}

type voiceVerb struct {
	XMLName xml.Name
	Attrs   []xml.Attr  `xml:",any,attr"`
	Text    string      `xml:",chardata"`
	Verbs   []voiceVerb `xml:",any"`
}

func (v *voiceVerb) attr(name string) string {
	for _, a := range v.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// parseVoice reads an answer. Nothing at all hangs up at once.
func parseVoice(answer received) (*voiceDoc, error) {
	if strings.TrimSpace(string(answer.body)) == "" {
		return &voiceDoc{}, nil
	}
	kind, _, err := mime.ParseMediaType(answer.contentType)
	if err != nil || !slices.Contains([]string{"text/xml", "application/xml", "text/html"}, kind) {
		return nil, fmt.Errorf("12300: Invalid Content-Type: %s", answer.contentType)
	}
	return parseVoiceXML(answer.body)
}

func parseVoiceXML(body []byte) (*voiceDoc, error) {
	var root voiceVerb
	if err := xml.Unmarshal(body, &root); err != nil { //nolint:gosec // it makes nothing but names and texts
		return nil, fmt.Errorf("12100: Document parse failure: %w", err)
	}
	if root.XMLName.Local != "Response" {
		return nil, errors.New("12100: Document parse failure: the root must be <Response>")
	}
	doc := &voiceDoc{}
	for i := range root.Verbs {
		more, err := doc.add(&root.Verbs[i])
		if err != nil || !more {
			return doc, err
		}
	}
	return doc, nil
}

// add takes one verb; more is false when nothing after it is done.
func (d *voiceDoc) add(v *voiceVerb) (more bool, err error) {
	switch name := v.XMLName.Local; name {
	case "Say":
		text := strings.Join(strings.Fields(v.Text), " ")
		d.Said = append(d.Said, text)
		d.Seconds += speaking(text)
	case "Pause":
		seconds := 1
		if raw := v.attr("length"); raw != "" {
			if seconds, err = strconv.Atoi(raw); err != nil || seconds < 0 {
				return false, fmt.Errorf("13910: Pause: Invalid length value: %s", raw)
			}
		}
		d.Seconds += seconds
	case "Hangup":
		return false, nil
	case "Reject":
		if d.Reject = v.attr("reason"); d.Reject == "" {
			d.Reject = "rejected"
		}
		return false, nil
	case "Connect":
		if len(v.Verbs) != 1 || v.Verbs[0].XMLName.Local != "Stream" || !strings.HasPrefix(v.Verbs[0].attr("url"), "ws") {
			return false, errors.New("12200: the sandbox imitates only <Stream> in <Connect>, with a url of ws:// or wss://")
		}
		d.Stream, d.Seconds = v.Verbs[0].attr("url"), -1
		return false, nil
	default:
		return false, fmt.Errorf("12200: the sandbox does not imitate <%s>", name)
	}
	return true, nil
}

// speaking is how long it takes to say something, at two and a half words a second.
func speaking(text string) int { return len(strings.Fields(text))*2/5 + 1 }
