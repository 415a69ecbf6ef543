package config

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/shopspring/decimal"
)

// Environment is where a process runs.
type Environment string

// The environments.
const (
	Development Environment = "development"
	Production  Environment = "production"
)

// UnmarshalText takes the two known names only.
func (e *Environment) UnmarshalText(b []byte) error {
	switch v := Environment(b); v {
	case Development, Production:
		*e = v
		return nil
	}
	return &problem{"is not a known environment", "Set it to development or production."}
}

// AuthProvider is who checks passwords.
type AuthProvider string

// The providers.
const (
	AuthLocal    AuthProvider = "local"    // our own table, argon2id
	AuthSupabase AuthProvider = "supabase" // a Supabase project's GoTrue
)

// UnmarshalText takes the known names only.
func (a *AuthProvider) UnmarshalText(b []byte) error {
	switch v := AuthProvider(b); v {
	case AuthLocal, AuthSupabase:
		*a = v
		return nil
	}
	return &problem{"is not a known sign-in provider", "Set it to local or supabase."}
}

// SignUp says who may make an organisation.
type SignUp string

// The ways.
const (
	SignUpOpen   SignUp = "open"   // anybody, on the sign-up page
	SignUpClosed SignUp = "closed" // nobody; there is no such page
)

// UnmarshalText takes the known names only.
func (s *SignUp) UnmarshalText(b []byte) error {
	switch v := SignUp(b); v {
	case SignUpOpen, SignUpClosed:
		*s = v
		return nil
	}
	return &problem{"is neither open nor closed", "Set it to open or closed."}
}

// Micros is an exchange rate in millionths.
type Micros int64

var plainDecimal = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,9})?$`)

// UnmarshalText reads a plain decimal above 0 and below 10 with at most six decimals.
func (m *Micros) UnmarshalText(b []byte) error {
	bad := &problem{"is not a usable rate", "Give the pounds that one dollar is worth, above 0 and below 10, with at most six decimals, for example 0.79."}
	// Checked first, since decimal also reads exponents, and would build a number of as many digits.
	if !plainDecimal.Match(b) {
		return bad
	}
	d, err := decimal.NewFromString(string(b))
	if err != nil || d.Exponent() < -6 || d.Sign() <= 0 || d.GreaterThanOrEqual(decimal.NewFromInt(10)) {
		return bad
	}
	*m = Micros(d.Shift(6).IntPart())
	return nil
}

// Units is an amount in whole units of a currency.
type Units int64

// UnmarshalText reads digits alone.
func (u *Units) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil {
		return &problem{"is not a whole number", "Give whole units of the account's currency as digits only, for example 20; 0 switches it off."}
	}
	*u = Units(n)
	return nil
}

// Seconds is a time in whole seconds.
type Seconds int64

// maxSeconds leaves room for what else has to end before deploy/ringfence.service and deploy/compose.yaml kill.
const maxSeconds = 20

// UnmarshalText reads digits alone, up to maxSeconds.
func (s *Seconds) UnmarshalText(b []byte) error {
	n, err := strconv.ParseUint(string(b), 10, 32)
	if err != nil || n > maxSeconds {
		return &problem{"is not a time that a stop may wait", fmt.Sprintf("Give whole seconds as digits only, at most %d, for example 10; 0 waits for nobody.", maxSeconds)}
	}
	*s = Seconds(n)
	return nil
}

// Duration is the time as Go has it.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// Share is a part of a whole, in millionths.
type Share int64

// UnmarshalText reads a plain decimal from 0 to 1.
func (s *Share) UnmarshalText(b []byte) error {
	bad := &problem{"is not a share", "Give a number from 0 (none) to 1 (all), for example 0.1."}
	if !plainDecimal.Match(b) {
		return bad
	}
	d, err := decimal.NewFromString(string(b))
	if err != nil || d.Exponent() < -6 || d.GreaterThan(decimal.NewFromInt(1)) {
		return bad
	}
	*s = Share(d.Shift(6).IntPart())
	return nil
}

// Networks is a list of address ranges.
type Networks []netip.Prefix

// UnmarshalText reads comma-separated CIDR ranges.
func (n *Networks) UnmarshalText(b []byte) error {
	var all Networks
	for entry := range strings.SplitSeq(string(b), ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(entry))
		if err != nil {
			return &problem{"has an entry that is not an address range", "Write ranges like 10.0.0.0/8 or 192.0.2.7/32, separated by commas."}
		}
		if p.Bits() == 0 {
			return &problem{"trusts every address there is", "Name the ranges of your own proxies; anyone else could claim to be anybody."}
		}
		all = append(all, p.Masked())
	}
	*n = all
	return nil
}

// Contains reports whether the address lies in one of the ranges; an IPv4 address mapped into IPv6 counts as IPv4.
func (n Networks) Contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, p := range n {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// checkListenAddr wants host:port with a fixed port, since URLs are made of it before anything listens.
func checkListenAddr(addr string, loopbackOnly bool) *problem {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || !validPort(port) || (host != "" && !validHost(host)) {
		return &problem{"is not an address to listen on", "Write host:port with a port from 1 to 65535, for example 127.0.0.1:8080."}
	}
	if loopbackOnly && !isLoopback(host) {
		return &problem{"is not a loopback address", "Development listens for this machine only; use 127.0.0.1 with a port."}
	}
	return nil
}

// origin reads scheme://host[:port] and returns it in the form browsers send as Origin. Plain http is for loopback,
// unless anyHTTP.
func origin(raw string, anyHTTP bool) (string, *problem) {
	bad := &problem{"is not a plain URL", "Write scheme, host and, where needed, port only, for example https://wallet.example.com."}
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || u.User != nil || (u.Path != "" && u.Path != "/") || strings.ContainsAny(raw, "?#") {
		return "", bad
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if !validHost(host) || (port == "" && strings.HasSuffix(u.Host, ":")) || (port != "" && !validPort(port)) {
		return "", bad
	}
	switch u.Scheme {
	case "https":
	case "http":
		if !anyHTTP && !isLoopback(host) {
			return "", &problem{"is not https", "Use https; plain http is only for addresses of this machine, in development."}
		}
	default:
		return "", bad
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && port != map[string]string{"http": "80", "https": "443"}[u.Scheme] {
		host += ":" + port
	}
	return u.Scheme + "://" + host, nil
}

// smtpURL reads smtp[s]://[user:password@]host[:port] and returns it with its port: without one 587, where mail is
// submitted (RFC 6409), and 465 for smtps (RFC 8314).
func smtpURL(raw string) (string, *problem) {
	u, err := url.Parse(raw)
	if err != nil || u.Opaque != "" || (u.Path != "" && u.Path != "/") || strings.ContainsAny(raw, "?#") {
		return "", &problem{"is not the address of a mail server", "Write smtp://user:password@host:port or smtps://…, with what is special in the password percent-encoded."}
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	usual := map[string]string{"smtp": "587", "smtps": "465"}[u.Scheme]
	switch {
	case usual == "":
		return "", &problem{"is neither smtp:// nor smtps://", "Write smtp://host:port, or smtps:// where the server speaks TLS from the start."}
	case !validHost(host) || (port == "" && strings.HasSuffix(u.Host, ":")) || (port != "" && !validPort(port)):
		return "", &problem{"has no usable host and port", "Write them as in smtp://mail.example.com:587."}
	case !sendableUser(u.User):
		return "", &problem{"has a user without a password, or one that no mail server can take", "Write both, as in smtp://user:password@host:port, or neither."}
	}
	if port == "" {
		port = usual
	}
	return (&url.URL{Scheme: u.Scheme, User: u.User, Host: net.JoinHostPort(host, port)}).String(), nil
}

// sendableUser takes nobody, or a name and password of no control characters, which would end a line or a field of SMTP.
func sendableUser(user *url.Userinfo) bool {
	if user == nil {
		return true
	}
	password, _ := user.Password()
	control := func(r rune) bool { return r < ' ' || r == 0x7f }
	return user.Username() != "" && password != "" && !strings.ContainsFunc(user.Username()+password, control)
}

// samePort reports whether two host:port lead to one port of this machine.
func samePort(a, b string) bool {
	hostA, portA, errA := net.SplitHostPort(a)
	hostB, portB, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && portA == portB && isHere(hostA) && isHere(hostB)
}

// isHere reports whether a host to listen on is reached through loopback.
func isHere(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "" || isLoopback(host) || err == nil && a.IsUnspecified()
}

var label = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// validHostname takes DNS names of ASCII labels, not addresses: the last label must have a letter.
func validHostname(host string) bool {
	labels := strings.Split(strings.ToLower(host), ".")
	for _, l := range labels {
		if !label.MatchString(l) {
			return false
		}
	}
	return len(host) <= 253 && strings.ContainsAny(labels[len(labels)-1], "abcdefghijklmnopqrstuvwxyz")
}

func validHost(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Zone() == "" || validHostname(host)
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// isLoopback judges the host as written; a name is never looked up, so only localhost counts.
func isLoopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback() || strings.EqualFold(host, "localhost")
}

// checkDatabaseURL catches slips; whether the database answers is for the connection to find out.
func checkDatabaseURL(dsn string) *problem {
	bad := &problem{"is not a Postgres address", "Write postgres://user:password@host:5432/database, or key=value pairs."}
	if !strings.Contains(dsn, "://") {
		if !strings.Contains(dsn, "=") {
			return bad
		}
		return nil
	}
	u, err := url.Parse(dsn)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		return bad
	}
	// A socket's directory travels as ?host=/path, with no host before the path.
	if u.Host == "" && u.Query().Get("host") == "" {
		return bad
	}
	return nil
}

var stripeKey = regexp.MustCompile(`^[sr]k_(test|live)_[A-Za-z0-9_]+$`)

func checkStripeKey(key string, development bool) *problem {
	switch {
	case strings.HasPrefix(key, "pk_"):
		return &problem{"is a publishable key", "Use the secret key (sk_test_… or sk_live_…) from Stripe's dashboard, Developers, API keys."}
	case !stripeKey.MatchString(key):
		return &problem{"is not a Stripe secret key", "Use a key that begins with sk_test_, sk_live_, rk_test_ or rk_live_, from Stripe's dashboard, Developers, API keys."}
	case development && strings.Contains(key[:len("sk_live_")], "_live_"):
		return &problem{"is a live key", "Development must never move real money; use a test key (sk_test_…), or leave it unset for the sandbox."}
	}
	return nil
}

var webhookSecret = regexp.MustCompile(`^whsec_[!-~]{24,}$`)

// An empty or short secret would let anybody sign events: an HMAC with an empty key verifies like any other.
func checkWebhookSecret(secret string) *problem {
	if !webhookSecret.MatchString(secret) {
		return &problem{"is not a webhook signing secret", "Copy it whole from Stripe's dashboard, Developers, Webhooks: whsec_ and at least 24 characters."}
	}
	return nil
}

const minSessionKeyBytes = 32

// sessionKey decodes a key and refuses what nobody would draw at random.
func sessionKey(text string) (string, *problem) {
	const remedy = "Make one with: openssl rand -base64 32"
	key, ok := decodeKey(text)
	switch {
	case !ok:
		return "", &problem{"is neither base64 nor hex", remedy}
	case len(key) < minSessionKeyBytes:
		return "", &problem{"is shorter than " + strconv.Itoa(minSessionKeyBytes) + " bytes once decoded", remedy}
	case looksMadeUp(key):
		return "", &problem{"is easy to guess: it repeats itself or follows a pattern", remedy}
	}
	return string(key), nil
}

// decodeKey takes hex where the text can be hex, else base64 of either alphabet, padded or not.
func decodeKey(text string) ([]byte, bool) {
	if key, err := hex.DecodeString(text); err == nil {
		return key, true
	}
	text = strings.TrimRight(text, "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if key, err := encoding.DecodeString(text); err == nil {
			return key, true
		}
	}
	return nil, false
}

// looksMadeUp finds a block that repeats, an even staircase (00 01 02 …), and fewer than ten different bytes. Of random
// keys of 32 bytes, fewer than one in 10^20 is refused.
func looksMadeUp(key []byte) bool {
	for period := 1; period <= len(key)/2; period++ {
		if repeats(key, period) {
			return true
		}
	}
	staircase := true
	distinct := map[byte]bool{key[0]: true}
	for i := 1; i < len(key); i++ {
		distinct[key[i]] = true
		staircase = staircase && key[i]-key[i-1] == key[1]-key[0]
	}
	return staircase || len(distinct) < 10
}

func repeats(key []byte, period int) bool {
	for i := period; i < len(key); i++ {
		if key[i] != key[i-period] {
			return false
		}
	}
	return true
}
