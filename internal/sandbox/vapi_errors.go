package sandbox

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// vapiError is an error as Vapi's API shows it. Several faults of one request come as a list.
type vapiError struct {
	Status  int
	Faults  []string
	listed  bool
	summary string // in place of the status' own name
}

func (e *vapiError) Error() string {
	return fmt.Sprintf("%d: %s", e.Status, strings.Join(e.Faults, "; "))
}

// MarshalJSON writes {"message", "error", "statusCode"}; what is pinned has no statusCode.
func (e *vapiError) MarshalJSON() ([]byte, error) {
	var message any = strings.Join(e.Faults, "; ")
	if e.listed {
		message = e.Faults
	}
	if e.summary != "" {
		return json.Marshal(map[string]any{"error": e.summary, "message": message})
	}
	return json.Marshal(map[string]any{"message": message, "error": http.StatusText(e.Status), "statusCode": e.Status})
}

func vapiFail(status int, format string, args ...any) *vapiError {
	return &vapiError{Status: status, Faults: []string{fmt.Sprintf(format, args...)}}
}

// vapiInvalid is the error of a request with faults; nil without any.
func vapiInvalid(faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	return &vapiError{Status: http.StatusBadRequest, Faults: faults, listed: true}
}

// vapiPinned is the error of deleting an assistant that something still names.
func vapiPinned(format string, args ...any) *vapiError {
	e := vapiFail(http.StatusConflict, format, args...)
	e.summary = "assistant_pinned"
	return e
}

// vapiMissing is what Vapi answers for what it does not know.
func vapiMissing(what, id string) *vapiError {
	return vapiFail(http.StatusNotFound, "%s with ID %s does not exist.", what, id)
}

// vapiRefusal is the error of the faults that answer before anything happened; nil for the others. The code of refuse
// is a status.
func vapiRefusal(f Fault) *vapiError {
	switch f.Do {
	case Fault429:
		return vapiFail(http.StatusTooManyRequests, "ThrottlerException: Too Many Requests")
	case Fault503:
		return vapiFail(http.StatusServiceUnavailable, "Service Unavailable")
	case Fault500:
		return vapiFail(http.StatusInternalServerError, "Internal server error")
	case FaultRefuse:
		return vapiFail(f.Code, "Refused (scripted).")
	default:
		return nil
	}
}
