package sandbox

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// shape says what is wrong with a value, in the words of Vapi's validator; nothing when it is as it should be.
type shape func(path string, v any) []string

func one(format string, args ...any) []string { return []string{fmt.Sprintf(format, args...)} }

// words is a string of at most so many characters; zero is any length.
func words(most int) shape {
	return func(path string, v any) []string {
		s, ok := v.(string)
		switch {
		case !ok:
			return one("%s must be a string", path)
		case most > 0 && utf8.RuneCountInString(s) > most:
			return one("%s must be shorter than or equal to %d characters", path, most)
		default:
			return nil
		}
	}
}

// choice is one of some strings.
func choice(of ...string) shape {
	return func(path string, v any) []string {
		if s, ok := v.(string); ok && slices.Contains(of, s) {
			return nil
		}
		return one("%s must be one of the following values: %s", path, strings.Join(of, ", "))
	}
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

func anID(path string, v any) []string {
	if s, ok := v.(string); ok && uuidForm.MatchString(s) {
		return nil
	}
	return one("%s must be a UUID", path)
}

func webURL(path string, v any) []string {
	s, _ := v.(string)
	if u, err := url.Parse(s); err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" {
		return nil
	}
	return one("%s must be a URL address", path)
}

func dialled(path string, v any) []string {
	if s, ok := v.(string); ok && e164.MatchString(s) {
		return nil
	}
	return one("%s must be a valid phone number in the E.164 format. Hot tip, you may be missing the country code (Eg. US: +1).", path)
}

func boolean(path string, v any) []string {
	if _, ok := v.(bool); ok {
		return nil
	}
	return one("%s must be a boolean value", path)
}

// between is a number within bounds.
func between(least, most float64) shape {
	return func(path string, v any) []string {
		n, ok := v.(float64)
		switch {
		case !ok:
			return one("%s must be a number conforming to the specified constraints", path)
		case n < least:
			return one("%s must not be less than %v", path, least)
		case n > most:
			return one("%s must not be greater than %v", path, most)
		default:
			return nil
		}
	}
}

// anything has no shape: what is kept and shown, but has no effect on a call of the sandbox.
func anything(string, any) []string { return nil }

func anyObject(path string, v any) []string {
	if _, ok := v.(map[string]any); ok {
		return nil
	}
	return one("%s must be an object", path)
}

func each(of shape) shape {
	return func(path string, v any) []string {
		items, ok := v.([]any)
		if !ok {
			return one("%s must be an array", path)
		}
		var faults []string
		for i, item := range items {
			faults = append(faults, of(fmt.Sprintf("%s.%d", path, i), item)...)
		}
		return faults
	}
}

// object has the properties named and no others. All are optional but those required; null is as if unset.
func object(props map[string]shape, required ...string) shape {
	return func(path string, v any) []string {
		fields, ok := v.(map[string]any)
		if !ok {
			return one("%s must be an object", path)
		}
		prefix := ""
		if path != "" {
			prefix = path + "."
		}
		var faults []string
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			if props[name] == nil {
				faults = append(faults, fmt.Sprintf("%sproperty %s should not exist", prefix, name))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(props)) {
			if v := fields[name]; v != nil || slices.Contains(required, name) {
				faults = append(faults, props[name](prefix+name, v)...)
			}
		}
		return faults
	}
}

// open is an object of which only some properties are looked at.
func open(props map[string]shape, required ...string) shape {
	return func(path string, v any) []string {
		fields, ok := v.(map[string]any)
		if !ok {
			return one("%s must be an object", path)
		}
		var faults []string
		for _, name := range slices.Sorted(maps.Keys(props)) {
			if v := fields[name]; v != nil || slices.Contains(required, name) {
				faults = append(faults, props[name](path+"."+name, v)...)
			}
		}
		return faults
	}
}

// serverShape is where messages go; see https://docs.vapi.ai/server-url/setting-server-urls.
var serverShape = object(map[string]shape{
	"url": webURL, "timeoutSeconds": between(1, 300), "headers": anyObject, "credentialId": words(0),
	"backoffPlan": object(map[string]shape{
		"type": choice("fixed", "exponential"), "maxRetries": between(0, 10), "baseDelaySeconds": between(0, 10),
		"excludedStatusCodes": each(between(100, 599)),
	}, "type", "maxRetries", "baseDelaySeconds"),
})

// toolShape is a tool of a model. Only those that a script can call are imitated: functions, and ending the call. Passing a
// call on is kept and shown, and nobody is passed on.
var toolShape = object(map[string]shape{
	"destinations": each(open(map[string]shape{"type": choice("number"), "number": dialled, "callerId": words(40), "description": words(0)}, "type", "number")),
	"type":         choice("function", "endCall", "transferCall"), "async": boolean, "messages": each(anyObject), "server": serverShape,
	"function": object(map[string]shape{
		"name": words(80), "description": words(0), "parameters": anyObject, "strict": boolean,
	}, "name"),
}, "type")

// modelShape is an assistant's model.
var modelShape = object(map[string]shape{
	"provider": words(0), "model": words(0), "temperature": between(0, 2), "maxTokens": between(50, 10_000),
	"emotionRecognitionEnabled": boolean, "numFastTurns": between(0, 1000), "tools": each(toolShape),
	"messages": each(object(map[string]shape{
		"role": choice("assistant", "function", "user", "system", "tool"), "content": words(0),
	}, "role")),
}, "provider", "model")

// withProvider is a voice or a transcriber, which nothing is heard of here.
var withProvider = open(map[string]shape{"provider": words(0)}, "provider")

// assistantProps are the properties of https://docs.vapi.ai/api-reference/assistants/create, without hooks and the
// credentials that come along.
var assistantProps = map[string]shape{
	"name": words(40), "firstMessage": words(0), "firstMessageInterruptionsEnabled": boolean,
	"firstMessageMode": choice(
		"assistant-speaks-first", "assistant-speaks-first-with-model-generated-message", "assistant-waits-for-user",
	),
	"model": modelShape, "voice": withProvider, "transcriber": withProvider, "voicemailDetection": anything,
	"clientMessages": each(words(0)), "serverMessages": each(words(0)), "maxDurationSeconds": between(10, 43_200),
	"backgroundSound": words(0), "modelOutputInMessagesEnabled": boolean, "voicemailMessage": words(1000),
	"endCallMessage": words(1000), "endCallPhrases": each(words(140)), "compliancePlan": anyObject, "metadata": anyObject,
	"backgroundSpeechDenoisingPlan": anyObject, "analysisPlan": anyObject,
	"artifactPlan": object(map[string]shape{
		"recordingEnabled": boolean, "recordingFormat": words(0), "videoRecordingEnabled": boolean, "pcapEnabled": boolean,
		"loggingEnabled": boolean, "fullMessageHistoryEnabled": boolean,
		"transcriptPlan": open(map[string]shape{"enabled": boolean}),
	}),
	"startSpeakingPlan": anyObject, "stopSpeakingPlan": anyObject,
	"monitorPlan":   open(map[string]shape{"listenEnabled": boolean, "controlEnabled": boolean}),
	"credentialIds": each(words(0)), "server": serverShape, "keypadInputPlan": anyObject,
}

var assistantShape = object(assistantProps)

// overridesShape is what a call changes of its assistant.
var overridesShape = object(func() map[string]shape {
	props := maps.Clone(assistantProps)
	props["variableValues"] = anyObject
	props["tools:append"] = each(toolShape)
	return props
}())

// numberProps are the properties of a number of Twilio's; see https://docs.vapi.ai/api-reference/phone-numbers/create.
var numberProps = map[string]shape{
	"provider": choice("twilio"), "number": dialled, "twilioAccountSid": words(0), "twilioAuthToken": words(0),
	"name": words(40), "assistantId": anID, "smsEnabled": boolean, "server": serverShape,
}
