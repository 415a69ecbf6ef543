package sandbox

import (
	"fmt"
	"net/http"
)

// twilioError is an error as Twilio's API shows it; see https://www.twilio.com/docs/api/errors.
type twilioError struct {
	Code     int    `json:"code"`
	Message  string `json:"message"`
	MoreInfo string `json:"more_info"`
	Status   int    `json:"status"`
}

func (e *twilioError) Error() string { return fmt.Sprintf("%d: %s", e.Code, e.Message) }

// Twilio's error codes that the sandbox gives by itself; refuse can give any.
const (
	codeUnknownParameter = 20001
	codeAuthenticate     = 20003
	codeMethod           = 20004
	codePageSize         = 20007
	codeForbidden        = 20403
	codeNotFound         = 20404
	codeInvalidParameter = 20422
	codeTooMany          = 20429
	codeInternal         = 20500
	codeUnavailable      = 20503

	codeNoCallTo       = 21201
	codeInvalidCallURL = 21205
	codeUnverified     = 21210
	codeNoCallFrom     = 21213
	codeCallUnroutable = 21214
	codeCallRegion     = 21215
	codeCallBlocked    = 21216
	codeInvalidPhone   = 21217
	codeCallState      = 21220
	codeInvalidCaller  = 21401
	codeCallerExists   = 21450
	codeInvalidEvent   = 21626

	codeInvalidURL        = 21402
	codeInvalidMethod     = 21403
	codeInvalidNumber     = 21421
	codeUnavailableNumber = 21422
	codeEmptyArea         = 21452
	codeLocalAddress      = 21615
	codeNoAddress         = 21628
	codeAddressInUse      = 21629
	codeNeedsBundle       = 21649

	codeInvalidTo       = 21211
	codeInvalidFrom     = 21212
	codeSameNumber      = 21266
	codeRegion          = 21408
	codeInvalidToken    = 21481
	codeNoBody          = 21602
	codeNoFrom          = 21603
	codeNoTo            = 21604
	codeNotCapable      = 21606
	codeInvalidCallback = 21609
	codeOptedOut        = 21610
	codeQueueFull       = 21611
	codeUnroutable      = 21612
	codeNotMobile       = 21614
	codeTooLong         = 21617
	codeNotTwilio       = 21659
)

// What becomes of messages that cannot be delivered.
const (
	codeUnreachable = 30003
	codeUnknown     = 30008
	codeExpired     = 30036
)

func twilioFail(code int, format string, args ...any) *twilioError {
	e := &twilioError{
		Code: code, Message: fmt.Sprintf(format, args...), Status: http.StatusBadRequest,
		MoreInfo: fmt.Sprintf("https://www.twilio.com/docs/errors/%d", code),
	}
	// The general errors name the status they come with.
	switch code {
	case codeAuthenticate:
		e.Status = http.StatusUnauthorized
	case codeMethod:
		e.Status = http.StatusMethodNotAllowed
	case codeForbidden, codeNotFound, codeTooMany, codeInternal, codeUnavailable:
		e.Status = code - 20000
	}
	return e
}

// notFound is what Twilio answers for a resource that it does not know.
func notFound(path string) *twilioError {
	return twilioFail(codeNotFound, "The requested resource %s was not found", path)
}

// magicTo are the recipients that Twilio's test credentials refuse, and magicFrom the senders; see
// https://www.twilio.com/docs/iam/test-credentials#test-sms-messages.
var (
	magicTo = map[string]int{
		"+15005550001": codeInvalidTo,
		"+15005550002": codeUnroutable,
		"+15005550003": codeRegion,
		"+15005550004": codeOptedOut,
		"+15005550009": codeNotMobile,
	}
	magicFrom = map[string]int{
		"+15005550001": codeInvalidFrom,
		"+15005550007": codeNotCapable,
		"+15005550008": codeQueueFull,
	}
)

// sendError is the error of a message that cannot be made, in Twilio's words.
func sendError(code int, from, to string) *twilioError {
	switch code {
	case codeInvalidTo:
		return twilioFail(code, "The 'To' number %s is not a valid phone number.", to)
	case codeInvalidFrom:
		return twilioFail(code,
			"The 'From' number %s is not a valid phone number, shortcode, or alphanumeric sender ID.", from)
	case codeSameNumber:
		return twilioFail(code, "'To' and 'From' number cannot be the same: %s", to)
	case codeRegion:
		return twilioFail(code,
			"Permission to send an SMS has not been enabled for the region indicated by the 'To' number: %s", to)
	case codeNotCapable:
		return twilioFail(code,
			"The 'From' phone number provided (%s) is not a valid message-capable Twilio phone number for this "+
				"destination.", from)
	case codeOptedOut:
		return twilioFail(code, "Attempt to send to unsubscribed recipient")
	case codeQueueFull:
		return twilioFail(code, "This 'From' number has exceeded the maximum number of queued messages")
	case codeUnroutable:
		return twilioFail(code,
			"Message cannot be sent with the current combination of 'To' (%s) and/or 'From' (%s) parameters", to, from)
	case codeNotMobile:
		return twilioFail(code, "To number: %s, is not a mobile number", to)
	case codeNotTwilio:
		return twilioFail(code, "'From' %s is not a Twilio phone number or Short Code country mismatch", from)
	default:
		return twilioFail(code, "Refused (scripted).")
	}
}

// twilioRefusal is the error of the faults that answer before anything happened; nil for the others.
func twilioRefusal(f Fault, from, to string) *twilioError {
	switch f.Do {
	case Fault429:
		return twilioFail(codeTooMany, "Too Many Requests")
	case Fault503:
		return twilioFail(codeUnavailable, "Service Unavailable")
	case Fault500:
		return twilioFail(codeInternal, "An internal server error has occurred")
	case FaultRefuse:
		return sendError(f.Code, from, to)
	default:
		return nil
	}
}
