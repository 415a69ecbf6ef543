package sandbox

import (
	"encoding/xml"
	"fmt"
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Receive has a text come in: from is anybody's number, to one that an account owns. It is kept as a message, posted
// to the number's SmsUrl, signed with its account's token, and what that answers is sent as a reply. It gives the message's SID, without waiting for the answer:
// Callbacks tells what became of it.
//
// Between numbers of the United States, words like STOP and START are obeyed, and posted all the same, as they are at
// Twilio; the confirmation that Twilio would send is not imitated. For all other numbers they are ordinary texts.
//
// Errors: 21211 and 21212 for numbers that are none, 20404 for a number that nobody owns, 21606 for one that takes no
// texts, 21602 and 21617 for a body that is empty or too long, 20403 when its account is suspended.
func (t *Twilio) Receive(from, to, body string) (sid string, err error) {
	switch {
	case !e164.MatchString(from):
		return "", sendError(codeInvalidFrom, from, to)
	case !e164.MatchString(to):
		return "", sendError(codeInvalidTo, from, to)
	case strings.TrimSpace(body) == "":
		return "", twilioFail(codeNoBody, "Message body is required.")
	case tooLong(body):
		return "", twilioFail(codeTooLong, "The concatenated message body exceeds the %d character limit", bodyLimit)
	}
	err = t.change(func(c *changes) error {
		n := t.owned[to]
		switch {
		case n == nil:
			return notFound(to)
		case !n.SMS:
			return sendError(codeNotCapable, to, from)
		case t.accounts[n.Account].Status != accountActive:
			return twilioFail(codeForbidden, "Account %s is not active", n.Account)
		}
		t.obey(c, n.Account, from, to, body)
		m := &sms{
			Account: n.Account, Direction: directionInbound, From: from, To: to, Body: body, Status: smsReceived,
			Sent: c.now.UnixNano(),
		}
		t.add(c, m)
		sid = m.SID
		if target := t.textsTo(n); target != "" {
			t.teller.tell(c, m, &callback{What: whatInbound, URL: target, Form: inboundForm(m)})
		}
		return nil
	})
	return sid, err
}

// obey does what Twilio does by itself with the words of a person in the United States.
func (t *Twilio) obey(c *changes, account, from, to, body string) {
	if country(from) != "US" || country(to) != "US" {
		return
	}
	word, key := strings.ToUpper(strings.TrimSpace(body)), optOutKey(account, to, from)
	switch {
	case slices.Contains(stopWords, word):
		t.optOuts[key] = &optOut{At: c.now.UnixNano()}
		c.put(bucketOptOuts, key, t.optOuts[key])
	case slices.Contains(startWords, word):
		delete(t.optOuts, key)
		c.remove(bucketOptOuts, key)
	}
}

// country is as much as the sandbox knows of where a number is.
func country(number string) string {
	switch {
	case strings.HasPrefix(number, "+1"):
		return "US"
	case strings.HasPrefix(number, "+44"):
		return "GB"
	default:
		return ""
	}
}

// inboundForm is what Twilio posts; see https://www.twilio.com/docs/messaging/guides/webhook-request. What it does not
// know is there and empty, and signed like everything else.
func inboundForm(m *sms) map[string]string {
	return map[string]string{
		"MessageSid": m.SID, "SmsSid": m.SID, "SmsMessageSid": m.SID, "AccountSid": m.Account, "From": m.From, "To": m.To,
		"Body": m.Body, "NumMedia": "0", "NumSegments": strconv.Itoa(m.Segments), "SmsStatus": m.Status,
		"ApiVersion": twilioVersion, "FromCountry": country(m.From), "ToCountry": country(m.To), "FromCity": "",
		"FromState": "", "FromZip": "", "ToCity": "", "ToState": "", "ToZip": "",
	}
}

// twiml is an answer to a text that came in; see https://www.twilio.com/docs/messaging/twiml.
type twiml struct {
	XMLName  xml.Name       `xml:"Response"`
	Messages []twimlMessage `xml:"Message"`
	Others   []twimlOther   `xml:",any"`
}

type twimlMessage struct {
	Text   string       `xml:",chardata"`
	Body   []string     `xml:"Body"`
	Action string       `xml:"action,attr"`
	Attrs  []xml.Attr   `xml:",any,attr"`
	Others []twimlOther `xml:",any"`
}

type twimlOther struct{ XMLName xml.Name }

// parseTwiML reads an answer. Nothing at all is no reply, and plain text is a reply as it stands.
func parseTwiML(answer received) (*twiml, error) {
	if strings.TrimSpace(string(answer.body)) == "" {
		return &twiml{}, nil
	}
	kind, _, err := mime.ParseMediaType(answer.contentType)
	switch {
	case err == nil && kind == "text/plain":
		return &twiml{Messages: []twimlMessage{{Text: string(answer.body)}}}, nil
	case err != nil || !slices.Contains([]string{"text/xml", "application/xml", "text/html"}, kind):
		return nil, fmt.Errorf("12300: Invalid Content-Type: %s", answer.contentType)
	}
	doc := &twiml{}
	if err := xml.Unmarshal(answer.body, doc); err != nil {
		return nil, fmt.Errorf("12100: Document parse failure: %w", err)
	}
	for _, m := range doc.Messages {
		for _, a := range m.Attrs {
			return nil, fmt.Errorf("12200: the sandbox does not imitate the attribute %s of <Message>", a.Name.Local)
		}
		for _, o := range m.Others {
			return nil, fmt.Errorf("12200: the sandbox does not imitate <%s> in <Message>", o.XMLName.Local)
		}
	}
	for _, o := range doc.Others {
		return nil, fmt.Errorf("12200: the sandbox does not imitate <%s>", o.XMLName.Local)
	}
	return doc, nil
}

// reply sends what the receiver answered to a text; it gives what was wrong with the answer, if anything.
func (t *Twilio) reply(c *changes, in *sms, answer received) (fault string) {
	doc, err := parseTwiML(answer)
	if err != nil {
		return err.Error()
	}
	for _, r := range doc.Messages {
		body := strings.TrimSpace(r.Text)
		if len(r.Body) > 0 {
			body = strings.TrimSpace(strings.Join(r.Body, ""))
		}
		m := &sms{
			Account: in.Account, Direction: directionReply, From: in.To, To: in.From, Body: body, Status: smsQueued,
			StatusCallback: resolve(in.Calls, r.Action),
		}
		switch {
		case body == "":
			fault = "14103: Message Invalid Body"
		case tooLong(body):
			fault = fmt.Sprintf("%d: The message body exceeds the %d character limit", codeTooLong, bodyLimit)
		case t.optOuts[optOutKey(m.Account, m.From, m.To)] != nil:
			fault = sendError(codeOptedOut, m.From, m.To).Error()
		default:
			t.add(c, m)
		}
	}
	return fault
}

// resolve gives the callback URL of a reply's action, which may be relative to the URL that was asked.
func resolve(calls []*callback, action string) string {
	if action == "" || len(calls) == 0 {
		return ""
	}
	base, err := url.Parse(calls[0].URL)
	if err != nil {
		return ""
	}
	u, err := base.Parse(action)
	if err != nil || !callbackURL(u.String()) {
		return ""
	}
	return u.String()
}
