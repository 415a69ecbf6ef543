package browser_test

import (
	"os/exec"
	"strings"
	"testing"

	"ringfence/internal/browser"
)

func TestNoBrowserIsAFailureThatSaysWhatToDo(t *testing.T) {
	_, err := browser.Find(func(string) (string, error) { return "", exec.ErrNotFound })
	if err == nil || !strings.Contains(err.Error(), "deploy/setup.sh test") {
		t.Errorf("got %v", err)
	}
}
