package payments

import (
	"errors"
	"net/url"
	"strings"
)

// maxCheckoutURL is more than Stripe needs: its URLs can carry a fragment of some hundred bytes.
const maxCheckoutURL = 2048

// CheckURL says whether a browser may be sent to raw: an address on exactly one of the origins ("https://host", or the
// development sandbox's "http://127.0.0.1:port"), of plain printable ASCII, with a path, and without a backslash, user
// info or any port that the origin does not have. Everything that parsers disagree about is refused, not interpreted.
func CheckURL(raw string, origins []string) error {
	if len(raw) > maxCheckoutURL {
		return errors.New("the address is too long")
	}
	for i := range len(raw) {
		if c := raw[i]; c < 0x21 || c > 0x7e || c == '\\' {
			return errors.New("the address holds a character that has no place in it")
		}
	}
	for _, origin := range origins {
		if !strings.HasPrefix(raw, origin+"/") {
			continue
		}
		u, err := url.Parse(raw)
		if err != nil {
			return errors.New("the address cannot be parsed")
		}
		if u.User != nil || u.Scheme+"://"+u.Host != origin {
			return errors.New("the address reads differently to different parsers")
		}
		return nil
	}
	return errors.New("the address is not on an allowed host")
}
