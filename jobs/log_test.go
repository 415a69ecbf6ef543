package jobs

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// What River says of itself every few seconds hides everything else, and what it warns of must not be hidden by that.
func TestRiverSaysAtInfoWhatOthersSayAtDebug(t *testing.T) {
	for level, want := range map[slog.Level]string{
		slog.LevelInfo:  "WARN river stuck,ERROR river broke",
		slog.LevelDebug: "DEBUG river counts,DEBUG river looks,WARN river stuck,ERROR river broke",
	} {
		var b bytes.Buffer
		log := riverLog(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: level})))
		log.Info("counts")
		log.Debug("looks")
		log.With("queue", "calls").WithGroup("of").Warn("stuck")
		log.Error("broke")
		var said []string
		for line := range strings.Lines(b.String()) {
			var part [3]string
			for field := range strings.FieldsSeq(line) {
				name, value, _ := strings.Cut(field, "=")
				switch name {
				case "level":
					part[0] = value
				case "part":
					part[1] = value
				case "msg":
					part[2] = value
				}
			}
			said = append(said, strings.Join(part[:], " "))
		}
		if got := strings.Join(said, ","); got != want {
			t.Errorf("at %s there is %q, want %q", level, got, want)
		}
	}
}
