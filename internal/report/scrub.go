package report

import (
	"regexp"
	"strings"
)

// somebodys finds what may be a secret or say who somebody is, beside ids and names that are kept. The first alternative
// that fits counts, so ids come first: their digits are no phone number.
var somebodys = regexp.MustCompile(strings.Join([]string{
	`(?P<id>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b|\b0x[0-9a-f]+\b|\b(?:evt|pi|cs|ch|re|dp|du|cus|in)_[A-Za-z0-9_]+)`,
	`(?P<secret>(?i:\b(?:sk|rk|pk|rf|whsec)_[a-z0-9_.-]+|\b(?:bearer|basic)\s+[^\s",]+|\beyJ[a-z0-9_-]{8,}\.[a-z0-9_.-]+` +
		`|\b(?:password|passwd|secret|token|authorization|cookie|api_?key|signature)["']?\s*[=:]\s*[^\s,;}&]+))`,
	`(?P<url>\b[a-zA-Z][a-zA-Z0-9+.-]*://[^\s"'<>]+)`,
	`(?P<mail>[^\s"'<>@()\[\],;:=]+@[^\s"'<>@()\[\],;:=]+)`,
	`(?P<quoted>"(?:[^"\\]|\\.)*")`,
	`(?P<address>\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?::[0-9]+)?\b|\[?(?:[0-9a-fA-F]{1,4}:){2,7}:?[0-9a-fA-F]{0,4}(?:::?[0-9a-fA-F]{1,4})*\]?(?::[0-9]+)?)`,
	`(?P<phone>\+[0-9][0-9 ().-]{4,}[0-9]|\b0[0-9][0-9 ().-]{5,}[0-9]\b|\b[0-9]{7,}\b)`,
}, "|"))

// harmless is a quoted word that is a name of ours, such as a constraint's.
var harmless = regexp.MustCompile(`^"[a-z][a-z0-9_./ -]{0,80}"$`)

// address is a quoted URL, as Go's HTTP client puts it into its errors.
var address = regexp.MustCompile(`^"[a-z]+://[^\s"]+"$`)

// Scrub takes out of a text what may be a secret or say who somebody is: keys and tokens, mail addresses, phone numbers,
// network addresses, all of a URL but scheme, host and path, and whatever is quoted, since that is where errors repeat
// what they were given. Ids of ours and of Stripe's stay.
func Scrub(s string) string {
	return somebodys.ReplaceAllStringFunc(s, func(found string) string {
		groups := somebodys.FindStringSubmatch(found)
		for i, name := range somebodys.SubexpNames() {
			if name == "" || groups[i] == "" {
				continue
			}
			switch name {
			case "id":
				return found
			case "url":
				return scrubURL(found)
			case "quoted":
				if harmless.MatchString(found) {
					return found
				}
				if address.MatchString(found) {
					return `"` + scrubURL(strings.Trim(found, `"`)) + `"`
				}
				return `"[text]"`
			case "mail":
				return "[mail address]"
			case "phone":
				return "[number]"
			}
			return "[" + name + "]"
		}
		return "[text]"
	})
}

// scrubURL keeps scheme, host and path, with what in the path is somebody's taken out.
func scrubURL(u string) string {
	scheme, rest, _ := strings.Cut(u, "://")
	if i := strings.IndexAny(rest, "?#"); i >= 0 {
		rest = rest[:i]
	}
	host, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndex(host, "@"); i >= 0 {
		host = host[i+1:]
	}
	if path != "" {
		parts := strings.Split(path, "/")
		for i, p := range parts {
			parts[i] = Scrub(p)
			if strings.ContainsAny(p, "%+") {
				parts[i] = "[text]"
			}
		}
		path = "/" + strings.Join(parts, "/")
	}
	return scheme + "://" + host + path
}
