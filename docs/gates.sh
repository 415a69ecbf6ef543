#!/bin/sh
# The five gates, asked with curl, step by step: what is allowed is done and charged once, what is refused costs nothing,
# a repeat is the same answer, and two at once on the last penny are one. It stops with status 1 at the first expectation
# that is not met.
#
#   export RINGFENCE_ENV=development
#   KEY=$(bin/ringfence apikey create --org "Second Tenant" --name gates | tail -n 1)
#   bin/ringfence credit --org "Second Tenant" --amount-pence=1200 --reason "To try the gates" --reference "$(date)"
#   KEY=$KEY docs/gates.sh
#
# BASE is where the server is, KEY an API key with every scope, and TO whom the text is sent to. It needs 1200p and the
# first prices of the rate card; it spends 40p, and sets the rest aside and frees it again. With BUY=1 it buys a number as
# well, for 1000p more, makes an agent that calls TO from it (which costs the seconds that are spoken), and releases and
# deletes them. No other program should spend from this wallet meanwhile.
set -eu
BASE=${BASE:-http://127.0.0.1:8080}
TO=${TO:-+447400123456}
if [ -z "${KEY:-}" ]; then
	echo 'Set KEY to an API key: bin/ringfence apikey create --org "Second Tenant" --name gates' >&2
	exit 2
fi
RUN=gates-$(date +%s)-$$ # begins every key of this run
DIR=$(mktemp -d)
ASIDE= # the holds that keep money out of the way
LEFT=0 # how often that was done
trap 'free || :; rm -r "$DIR"' EXIT

# --- asking -----------------------------------------------------------------------------------------------------------

# ask METHOD PATH [KEY [BODY]] asks and keeps STATUS and ANSWER; the headers are in $DIR/headers. TAG tells answers of
# requests at the same time apart.
ask() {
	if [ "$1" = GET ]; then
		set -- "$BASE$2"
	elif [ "$1" != POST ] && [ $# -lt 4 ]; then
		set -- -X "$1" "$BASE$2"
	elif [ "$1" != POST ]; then
		set -- -X "$1" -H 'Content-Type: application/json' -d "$4" "$BASE$2"
	elif [ $# -lt 4 ]; then
		set -- -X POST -H "Idempotency-Key: $RUN-$3" "$BASE$2"
	else
		set -- -H "Idempotency-Key: $RUN-$3" -H 'Content-Type: application/json' -d "$4" "$BASE$2"
	fi
	STATUS=$(curl -sS --max-time 30 -o "$DIR/answer${TAG:-}" -D "$DIR/headers${TAG:-}" -w '%{http_code}' -H "${BEARER-Authorization: Bearer $KEY}" "$@")
	ANSWER=$(cat "$DIR/answer${TAG:-}")
}

# field NAME is the value of a field of the answer, without quotation marks.
field() { printf '%s\n' "$ANSWER" | sed -n 's/.*"'"$1"'":"\{0,1\}\([^",}]*\).*/\1/p'; }

# wallet reads BALANCE, HELD and AVAILABLE, in pence.
wallet() {
	ask GET /api/v1/wallet
	is 200 "$STATUS" "the wallet can be read"
	BALANCE=$(field balance_pence) HELD=$(field held_pence) AVAILABLE=$(field available_pence)
}

# leave PENCE sets everything but so much aside.
leave() {
	LEFT=$((LEFT + 1))
	wallet
	while [ "$AVAILABLE" -gt "$1" ]; do
		over=$((AVAILABLE - $1))
		if [ "$over" -ge 1000 ]; then
			action=number count=$((over / 1000)) most=10
		elif [ "$over" -ge 10 ]; then
			action=sms count=$((over / 10)) most=1000
		else
			action=knowledge count=$over most=1000
		fi
		[ "$count" -le "$most" ] || count=$most
		ask POST /api/v1/holds "aside-$(printf '%s' "$ASIDE" | wc -w | tr -d ' ')-$LEFT" "{\"action\":\"$action\",\"quantity\":$count}"
		is 201 "$STATUS" "money can be set aside"
		ASIDE="$ASIDE $(field id)"
		wallet
	done
	is "$1" "$AVAILABLE" "what is left to spend"
}

# free frees what leave set aside.
free() {
	for aside in $ASIDE; do
		ask POST "/api/v1/holds/$aside/void" "free-$aside"
	done
	ASIDE=
}

# --- expecting --------------------------------------------------------------------------------------------------------

gate() { printf '\n%s\n' "$*"; }
ok() { printf '  ok  %s\n' "$*"; }

# is WANT GOT WHAT stops unless they are the same.
is() {
	if [ "$1" != "$2" ]; then
		printf '  --  %s: it is "%s", and should be "%s"\n%s\n' "$3" "$2" "$1" "${ANSWER:-}" >&2
		exit 1
	fi
}

# has HEADER stops unless the answer has it.
has() {
	if ! grep -qi "^$1" "$DIR/headers"; then
		printf '  --  the answer has no header "%s"\n' "$1" >&2
		cat "$DIR/headers" >&2
		exit 1
	fi
}

# costs PENCE stops unless exactly so much was taken since the wallet was last read, and nothing is held for it.
costs() {
	before=$BALANCE held=$HELD
	wallet
	is $((before - $1)) "$BALANCE" "the balance after what costs $1p"
	is "$held" "$HELD" "what is held afterwards"
}

# refused REQUIRED AVAILABLE stops unless the answer is a 402 with these figures, and nothing was charged.
refused() {
	is 402 "$STATUS" "the status of a refusal"
	is insufficient_funds "$(field code)" "its code"
	is "$1" "$(field required_pence)" "required_pence"
	is "$2" "$(field available_pence)" "available_pence"
	is $(($1 - $2)) "$(field shortfall_pence)" "shortfall_pence"
	case $(field top_up_url) in
	http*/wallet) ;;
	*) is "http…/wallet" "$(field top_up_url)" top_up_url ;;
	esac
	link=$(field top_up_url)
	costs 0
	ok "not enough: 402, needs $1p, has $2p, $(($1 - $2))p short, top up at $link; nothing charged"
}

# race PATH BODY sends two requests, with keys of their own, at the same moment and sorts their statuses into STATUSES.
race() {
	(TAG=-1 && ask POST "$1" race-1 "$2" && printf '%s\n' "$STATUS" >"$DIR/status-1") &
	first=$!
	(TAG=-2 && ask POST "$1" race-2 "$2" && printf '%s\n' "$STATUS" >"$DIR/status-2") &
	wait "$first"
	wait $!
	STATUSES=$(sort "$DIR/status-1" "$DIR/status-2" | tr '\n' ' ')
}

# --- the gates --------------------------------------------------------------------------------------------------------

gate "Gate 1: the account is known and active"
BEARER='X-No-Key: 1'
ask GET /api/v1/wallet
is 401 "$STATUS" "the status without a key"
BEARER='Authorization: Bearer rf_test_nobody0000_00000000000000000000000000'
ask GET /api/v1/wallet
is 401 "$STATUS" "the status with a key that nobody has"
ok "unknown: 401"
unset BEARER
wallet
is 0 "$(field debt_pence)" "what is owed"
ok "known: $AVAILABLE""p available, nothing owed"
if [ "$AVAILABLE" -lt 1200 ]; then
	echo '  --  the gates want 1200p to be tried: bin/ringfence credit --org "Second Tenant" --amount-pence=1200 --reason "To try the gates" --reference '"$RUN" >&2
	exit 1
fi

gate "Gate 2: a text"
text="{\"to\":\"$TO\",\"body\":\"Your table is booked.\"}"
ask POST /api/v1/messages text "$text"
is 201 "$STATUS" "the status of a text"
id=$(field id)
costs "$(field amount_pence)"
ok "enough: sent, $((before - BALANCE))p charged"
ask POST /api/v1/messages text "$text"
is 201 "$STATUS" "the status of the same again"
is "$id" "$(field id)" "the text"
has 'Idempotent-Replayed: true'
costs 0
ok "the same key again: the same text, not charged again"
ask POST /api/v1/messages text "{\"to\":\"$TO\",\"body\":\"Another text.\"}"
is 409 "$STATUS" "the status of another text with the same key"
is idempotency_key_reused "$(field code)" "its code"
ok "the same key for another text: 409"
leave 5
ask POST /api/v1/messages text-refused "$text"
refused 10 5
free

gate "Gate 3: a phone number"
ask GET '/api/v1/numbers/available?country=US&type=local'
is 200 "$STATUS" "the numbers for sale"
number=$(printf '%s\n' "$ANSWER" | sed -n 's/^[^+]*"phone_number":"\(+[0-9]*\)".*/\1/p')
leave 998
ask POST /api/v1/numbers buy "{\"phone_number\":\"$number\"}"
refused 1000 998
free
wallet
ask POST /api/v1/numbers nonsense '{"phone_number":"+1"}'
is "422 phone_number" "$STATUS $(field field)" "the status of what is no number, and its field"
costs 0
ok "what is no number: 422, nothing charged"
if [ -n "${BUY:-}" ]; then
	ask POST /api/v1/numbers buy "{\"phone_number\":\"$number\"}"
	is "201 $number" "$STATUS $(field phone_number)" "buying exactly the number that was listed"
	id=$(field id)
	ask POST /api/v1/numbers buy "{\"phone_number\":\"$number\"}"
	is "201 $id" "$STATUS $(field id)" "the same again"
	has 'Idempotent-Replayed: true'
	tries=0
	until ask GET "/api/v1/numbers/$id" && [ "$(field state)" = active ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || is active "$(field state)" "the number's state after a minute"
		sleep 1
	done
	costs 1000
	ok "enough: bought, 1000p charged when it became active; the same key again: the same number"
	number_id=$id

	gate "Gate 4: a call that an agent makes"
	ask POST /api/v1/agents agent '{"name":"Gates","first_message":"This is a test.","prompt":"Say goodbye."}'
	is 201 "$STATUS" "making an agent"
	agent=$(field id)
	call="{\"to\":\"$TO\",\"agent_id\":\"$agent\"}"
	ask POST /api/v1/calls no-number "$call"
	is "409 agent_without_number" "$STATUS $(field code)" "calling without a number"
	ask PUT "/api/v1/agents/$agent/number" - "{\"number_id\":\"$number_id\"}"
	is 200 "$STATUS" "linking the number"
	tries=0
	until ask GET "/api/v1/agents/$agent" && [ "$(field ready)" = true ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || is true "$(field ready)" "whether the agent is ready after a minute"
		sleep 1
	done
	ask POST /api/v1/calls nonsense '{"to":"hello"}'
	is "422 to" "$STATUS $(field field)" "calling what is no number"
	leave 78
	ask POST /api/v1/calls call-poor "$call"
	refused 79 78
	free
	wallet
	was=$HELD
	ask POST /api/v1/calls call "$call"
	is "201 56" "$STATUS $(field amount_pence)" "calling, and what is set aside for the first minute"
	id=$(field id)
	ask POST /api/v1/calls call "$call"
	is "201 $id" "$STATUS $(field id)" "the same again"
	has 'Idempotent-Replayed: true'
	tries=0
	until [ "$tries" -ge 20 ] || { ask GET "/api/v1/calls/$id" && [ "$(field state)" != ringing ]; }; do # it may go unanswered
		tries=$((tries + 1))
		sleep 1
	done
	ask POST "/api/v1/calls/$id/hangup" hangup
	is 200 "$STATUS" "hanging up"
	tries=0
	until ask GET "/api/v1/calls/$id" && [ "$(field ended_at)" != null ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 60 ] || is ended "$(field state)" "the call's state after a minute"
		sleep 1
	done
	state=$(field state) seconds=$(field seconds) cost=$(field amount_pence)
	HELD=$was
	costs "$cost"
	ok "made once, $state after $seconds s, ${cost}p charged; nothing is held any more"
	ask DELETE "/api/v1/agents/$agent?number=unlink"
	is 200 "$STATUS" "deleting the agent"
	id=$number_id

	ask DELETE "/api/v1/numbers/$id"
	is "202 releasing" "$STATUS $(field state)" "releasing it"
	costs 0
	ok "released: nothing more is charged"
fi

gate "Gate 3: a phone number of your own, as a hold"
wallet
ask POST /api/v1/holds number '{"action":"number","quantity":1}'
is 201 "$STATUS" "the status of a hold"
hold=$(field id)
is open "$(field state)" "its state"
was=$HELD price=$(field amount_pence)
wallet
is $((was + price)) "$HELD" "what is held"
ok "enough: ${price}p set aside, nothing taken yet"
ask POST /api/v1/holds number '{"action":"number","quantity":1}'
is "201 $hold" "$STATUS $(field id)" "the same again"
has 'Idempotent-Replayed: true'
costs 0
ok "the same key again: the same hold"
ask POST "/api/v1/holds/$hold/void" void
is "200 void" "$STATUS $(field state)" "voiding it"
wallet
is "$was" "$HELD" "what is held after the void"
ask POST "/api/v1/holds/$hold/capture" too-late
is "409 hold_void" "$STATUS $(field code)" "capturing it after that"
ok "voided: its money is free, and it cannot be captured any more"
leave 999
ask POST /api/v1/holds number-refused '{"action":"number","quantity":1}'
refused 1000 999
free

gate "Gate 4: a call, as a hold"
for lasts in 1:1 30:28 60:56 91:84; do
	ask POST /api/v1/holds "lasts-${lasts%:*}" "{\"action\":\"call\",\"quantity\":${lasts%:*},\"destination\":\"$TO\"}"
	is "201 ${lasts#*:}" "$STATUS $(field amount_pence)" "what a call of ${lasts%:*} s costs"
	ask POST "/api/v1/holds/$(field id)/void" "lasted-${lasts%:*}"
	is "200 void" "$STATUS $(field state)" "voiding it"
done
ok "1 s costs 1p, 30 s 28p, 60 s 56p, 91 s 84p: rounded up once"
wallet
call="{\"action\":\"call\",\"quantity\":60,\"destination\":\"$TO\"}"
ask POST /api/v1/holds call "$call"
is "201 56" "$STATUS $(field amount_pence)" "a hold for a minute"
hold=$(field id)
ask POST "/api/v1/holds/$hold/capture" capture '{"amount_pence":28}'
is "200 captured 28" "$STATUS $(field state) $(field amount_pence)" "capturing what half a minute costs"
costs 28
ok "enough: 56p set aside for a minute, 28p taken for half of one"
ask POST "/api/v1/holds/$hold/capture" capture '{"amount_pence":28}'
is "200 captured 28" "$STATUS $(field state) $(field amount_pence)" "the same again"
ask POST "/api/v1/holds/$hold/capture" capture-more '{"amount_pence":29}'
is "409 already_captured" "$STATUS $(field code)" "another amount"
costs 0
ok "captured again: the same answer, one charge; another amount: 409"
leave 78
ask POST /api/v1/holds call-refused "$call"
refused 79 78
free

gate "Gate 5: a search in the knowledge base"
wallet
search='{"query":"when are you open?"}'
ask POST /api/v1/knowledge/search search "$search"
is "200 1" "$STATUS $(field amount_pence)" "a search"
hold=$(field hold_id)
costs 1
ok "enough: done, 1p charged"
ask POST /api/v1/knowledge/search search "$search"
is "200 $hold" "$STATUS $(field hold_id)" "the same again"
has 'Idempotent-Replayed: true'
costs 0
ok "the same key again: the same answer, one charge"
leave 1
race /api/v1/knowledge/search "$search"
is '200 402 ' "$STATUSES" "the statuses of two at once"
costs 1
ok "two at once on the last penny: one is done, one is refused"
ask POST /api/v1/knowledge/search search-refused "$search"
refused 1 0
free

gate "Every gate holds."
