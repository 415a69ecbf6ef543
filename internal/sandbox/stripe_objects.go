package sandbox

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
)

// The types below are Stripe's objects as API version 2023-10-16 puts them on the wire, with the members that a
// prepaid business meets. Members that are always null here are kept, so that the shape is the real one.

// text is a string that is null on the wire when it is empty.
type text string

// MarshalJSON implements json.Marshaler.
func (t text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(t))
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *text) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	*t = ""
	if s != nil {
		*t = text(*s)
	}
	return nil
}

// null is a member that the sandbox never fills.
type null struct{}

// MarshalJSON implements json.Marshaler.
func (null) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// UnmarshalJSON implements json.Unmarshaler.
func (*null) UnmarshalJSON([]byte) error { return nil }

type enabled struct {
	Enabled bool `json:"enabled"`
}

type address struct {
	City       text `json:"city"`
	Country    text `json:"country"`
	Line1      text `json:"line1"`
	Line2      text `json:"line2"`
	PostalCode text `json:"postal_code"`
	State      text `json:"state"`
}

type customer struct {
	ID              string            `json:"id"`
	Object          string            `json:"object"`
	Address         *address          `json:"address"`
	Balance         int64             `json:"balance"`
	Created         int64             `json:"created"`
	Currency        text              `json:"currency"`
	DefaultSource   null              `json:"default_source"`
	Delinquent      bool              `json:"delinquent"`
	Description     text              `json:"description"`
	Discount        null              `json:"discount"`
	Email           text              `json:"email"`
	InvoicePrefix   text              `json:"invoice_prefix"`
	InvoiceSettings invoiceSettings   `json:"invoice_settings"`
	Livemode        bool              `json:"livemode"`
	Metadata        map[string]string `json:"metadata"`
	Name            text              `json:"name"`
	Phone           text              `json:"phone"`
	PreferredLangs  []string          `json:"preferred_locales"`
	Shipping        null              `json:"shipping"`
	TaxExempt       string            `json:"tax_exempt"`
	TestClock       null              `json:"test_clock"`
}

type invoiceSettings struct {
	CustomFields         null `json:"custom_fields"`
	DefaultPaymentMethod text `json:"default_payment_method"`
	Footer               null `json:"footer"`
	RenderingOptions     null `json:"rendering_options"`
}

type session struct {
	ID                   string            `json:"id"`
	Object               string            `json:"object"`
	AfterExpiration      null              `json:"after_expiration"`
	AllowPromotionCodes  *bool             `json:"allow_promotion_codes"`
	AmountSubtotal       int64             `json:"amount_subtotal"`
	AmountTotal          int64             `json:"amount_total"`
	AutomaticTax         automaticTax      `json:"automatic_tax"`
	BillingAddress       text              `json:"billing_address_collection"`
	CancelURL            text              `json:"cancel_url"`
	ClientReferenceID    text              `json:"client_reference_id"`
	ClientSecret         null              `json:"client_secret"`
	Consent              null              `json:"consent"`
	ConsentCollection    null              `json:"consent_collection"`
	Created              int64             `json:"created"`
	Currency             text              `json:"currency"`
	CurrencyConversion   null              `json:"currency_conversion"`
	CustomFields         []string          `json:"custom_fields"`
	CustomText           customText        `json:"custom_text"`
	Customer             text              `json:"customer"`
	CustomerCreation     text              `json:"customer_creation"`
	CustomerDetails      *customerDetails  `json:"customer_details"`
	CustomerEmail        text              `json:"customer_email"`
	ExpiresAt            int64             `json:"expires_at"`
	Invoice              text              `json:"invoice"`
	InvoiceCreation      invoiceCreation   `json:"invoice_creation"`
	Livemode             bool              `json:"livemode"`
	Locale               text              `json:"locale"`
	Metadata             map[string]string `json:"metadata"`
	Mode                 string            `json:"mode"`
	PaymentIntent        text              `json:"payment_intent"`
	PaymentLink          null              `json:"payment_link"`
	MethodCollection     string            `json:"payment_method_collection"`
	MethodConfig         null              `json:"payment_method_configuration_details"`
	PaymentMethodOptions map[string]any    `json:"payment_method_options"`
	PaymentMethodTypes   []string          `json:"payment_method_types"`
	PaymentStatus        string            `json:"payment_status"`
	PhoneNumber          enabled           `json:"phone_number_collection"`
	RecoveredFrom        null              `json:"recovered_from"`
	SetupIntent          text              `json:"setup_intent"`
	ShippingAddress      null              `json:"shipping_address_collection"`
	ShippingCost         null              `json:"shipping_cost"`
	ShippingDetails      null              `json:"shipping_details"`
	ShippingOptions      []string          `json:"shipping_options"`
	Status               string            `json:"status"`
	SubmitType           text              `json:"submit_type"`
	Subscription         null              `json:"subscription"`
	SuccessURL           string            `json:"success_url"`
	TaxIDCollection      *enabled          `json:"tax_id_collection,omitempty"`
	TotalDetails         totalDetails      `json:"total_details"`
	UIMode               string            `json:"ui_mode"`
	// URL is the hosted page while the session is open, null afterwards.
	URL text `json:"url"`
}

// MarshalJSON implements json.Marshaler: where nothing is to be paid, the amounts are null.
func (s session) MarshalJSON() ([]byte, error) {
	type plain session
	if s.Mode != modeSetup {
		return json.Marshal(plain(s))
	}
	return json.Marshal(struct {
		plain

		AmountSubtotal null `json:"amount_subtotal"`
		AmountTotal    null `json:"amount_total"`
	}{plain: plain(s)})
}

type automaticTax struct {
	Enabled   bool `json:"enabled"`
	Liability null `json:"liability"`
	Status    null `json:"status"`
}

type customText struct {
	AfterSubmit     null `json:"after_submit"`
	ShippingAddress null `json:"shipping_address"`
	Submit          null `json:"submit"`
	Terms           null `json:"terms_of_service_acceptance"`
}

type customerDetails struct {
	Address   *address      `json:"address"`
	Email     text          `json:"email"`
	Name      text          `json:"name"`
	Phone     text          `json:"phone"`
	TaxExempt string        `json:"tax_exempt"`
	TaxIDs    []collectedID `json:"tax_ids"`
}

type invoiceCreation struct {
	Enabled     bool        `json:"enabled"`
	InvoiceData invoiceData `json:"invoice_data"`
}

type invoiceData struct {
	AccountTaxIDs    null              `json:"account_tax_ids"`
	CustomFields     null              `json:"custom_fields"`
	Description      text              `json:"description"`
	Footer           text              `json:"footer"`
	Issuer           null              `json:"issuer"`
	Metadata         map[string]string `json:"metadata"`
	RenderingOptions null              `json:"rendering_options"`
}

type totalDetails struct {
	AmountDiscount int64 `json:"amount_discount"`
	AmountShipping int64 `json:"amount_shipping"`
	AmountTax      int64 `json:"amount_tax"`
}

type paymentIntent struct {
	ID                   string            `json:"id"`
	Object               string            `json:"object"`
	Amount               int64             `json:"amount"`
	AmountCapturable     int64             `json:"amount_capturable"`
	AmountDetails        amountDetails     `json:"amount_details"`
	AmountReceived       int64             `json:"amount_received"`
	Application          null              `json:"application"`
	ApplicationFee       null              `json:"application_fee_amount"`
	AutomaticMethods     *enabled          `json:"automatic_payment_methods"`
	CanceledAt           *int64            `json:"canceled_at"`
	CancellationReason   text              `json:"cancellation_reason"`
	CaptureMethod        string            `json:"capture_method"`
	ClientSecret         text              `json:"client_secret"`
	ConfirmationMethod   string            `json:"confirmation_method"`
	Created              int64             `json:"created"`
	Currency             string            `json:"currency"`
	Customer             text              `json:"customer"`
	Description          text              `json:"description"`
	Invoice              text              `json:"invoice"`
	LastPaymentError     *paymentError     `json:"last_payment_error"`
	LatestCharge         text              `json:"latest_charge"`
	Livemode             bool              `json:"livemode"`
	Metadata             map[string]string `json:"metadata"`
	NextAction           null              `json:"next_action"`
	OnBehalfOf           null              `json:"on_behalf_of"`
	PaymentMethod        text              `json:"payment_method"`
	MethodConfig         null              `json:"payment_method_configuration_details"`
	PaymentMethodOptions map[string]any    `json:"payment_method_options"`
	PaymentMethodTypes   []string          `json:"payment_method_types"`
	Processing           null              `json:"processing"`
	ReceiptEmail         text              `json:"receipt_email"`
	Review               null              `json:"review"`
	SetupFutureUsage     text              `json:"setup_future_usage"`
	Shipping             null              `json:"shipping"`
	Source               null              `json:"source"`
	StatementDescriptor  text              `json:"statement_descriptor"`
	StatementSuffix      text              `json:"statement_descriptor_suffix"`
	Status               string            `json:"status"`
	TransferData         null              `json:"transfer_data"`
	TransferGroup        null              `json:"transfer_group"`
}

type amountDetails struct {
	Tip struct{} `json:"tip"`
}

type paymentError struct {
	Charge        text           `json:"charge,omitempty"`
	Code          string         `json:"code"`
	DeclineCode   string         `json:"decline_code,omitempty"`
	DocURL        string         `json:"doc_url,omitempty"`
	Message       string         `json:"message"`
	PaymentMethod *paymentMethod `json:"payment_method,omitempty"`
	Type          string         `json:"type"`
}

type paymentMethod struct {
	ID             string            `json:"id"`
	Object         string            `json:"object"`
	BACSDebit      *bacsDebit        `json:"bacs_debit,omitempty"`
	BillingDetails billingDetails    `json:"billing_details"`
	Card           *card             `json:"card,omitempty"`
	Created        int64             `json:"created"`
	Customer       text              `json:"customer"`
	Livemode       bool              `json:"livemode"`
	Metadata       map[string]string `json:"metadata"`
	Type           string            `json:"type"`
}

type billingDetails struct {
	Address address `json:"address"`
	Email   text    `json:"email"`
	Name    text    `json:"name"`
	Phone   text    `json:"phone"`
}

type bacsDebit struct {
	Fingerprint string `json:"fingerprint"`
	Last4       string `json:"last4"`
	SortCode    string `json:"sort_code"`
}

type card struct {
	Brand       string     `json:"brand"`
	Checks      cardChecks `json:"checks"`
	Country     string     `json:"country"`
	ExpMonth    int64      `json:"exp_month"`
	ExpYear     int64      `json:"exp_year"`
	Fingerprint string     `json:"fingerprint"`
	Funding     string     `json:"funding"`
	Last4       string     `json:"last4"`
	Network     string     `json:"network,omitempty"`
	// ThreeD stands in a charge's details only, and is null there.
	ThreeD *null `json:"three_d_secure,omitempty"`
	// ThreeDUsage stands in a payment method only.
	ThreeDUsage *supported `json:"three_d_secure_usage,omitempty"`
	Wallet      null       `json:"wallet"`
}

type supported struct {
	Supported bool `json:"supported"`
}

type cardChecks struct {
	Line1      text `json:"address_line1_check"`
	PostalCode text `json:"address_postal_code_check"`
	CVC        text `json:"cvc_check"`
}

type methodDetails struct {
	BACSDebit *bacsDebit `json:"bacs_debit,omitempty"`
	Card      *card      `json:"card,omitempty"`
	Type      string     `json:"type"`
}

type charge struct {
	ID                  string            `json:"id"`
	Object              string            `json:"object"`
	Amount              int64             `json:"amount"`
	AmountCaptured      int64             `json:"amount_captured"`
	AmountRefunded      int64             `json:"amount_refunded"`
	Application         null              `json:"application"`
	ApplicationFee      null              `json:"application_fee"`
	ApplicationFeeAmt   null              `json:"application_fee_amount"`
	BalanceTransaction  text              `json:"balance_transaction"`
	BillingDetails      billingDetails    `json:"billing_details"`
	StatementDescriptor text              `json:"calculated_statement_descriptor"`
	Captured            bool              `json:"captured"`
	Created             int64             `json:"created"`
	Currency            string            `json:"currency"`
	Customer            text              `json:"customer"`
	Description         text              `json:"description"`
	Disputed            bool              `json:"disputed"`
	FailureBalance      null              `json:"failure_balance_transaction"`
	FailureCode         text              `json:"failure_code"`
	FailureMessage      text              `json:"failure_message"`
	FraudDetails        map[string]any    `json:"fraud_details"`
	Invoice             text              `json:"invoice"`
	Livemode            bool              `json:"livemode"`
	Metadata            map[string]string `json:"metadata"`
	OnBehalfOf          null              `json:"on_behalf_of"`
	Outcome             *outcome          `json:"outcome"`
	Paid                bool              `json:"paid"`
	PaymentIntent       text              `json:"payment_intent"`
	PaymentMethod       text              `json:"payment_method"`
	MethodDetails       methodDetails     `json:"payment_method_details"`
	ReceiptEmail        text              `json:"receipt_email"`
	ReceiptNumber       null              `json:"receipt_number"`
	ReceiptURL          text              `json:"receipt_url"`
	Refunded            bool              `json:"refunded"`
	Review              null              `json:"review"`
	Shipping            null              `json:"shipping"`
	SourceTransfer      null              `json:"source_transfer"`
	Descriptor          text              `json:"statement_descriptor"`
	DescriptorSuffix    text              `json:"statement_descriptor_suffix"`
	Status              string            `json:"status"`
	TransferData        null              `json:"transfer_data"`
	TransferGroup       null              `json:"transfer_group"`
}

type outcome struct {
	NetworkStatus string `json:"network_status"`
	Reason        text   `json:"reason"`
	RiskLevel     string `json:"risk_level"`
	SellerMessage string `json:"seller_message"`
	Type          string `json:"type"`
}

type refund struct {
	ID                 string             `json:"id"`
	Object             string             `json:"object"`
	Amount             int64              `json:"amount"`
	BalanceTransaction text               `json:"balance_transaction"`
	Charge             text               `json:"charge"`
	Created            int64              `json:"created"`
	Currency           string             `json:"currency"`
	Destination        *refundDestination `json:"destination_details,omitempty"`
	FailureBalance     string             `json:"failure_balance_transaction,omitempty"`
	FailureReason      string             `json:"failure_reason,omitempty"`
	Metadata           map[string]string  `json:"metadata"`
	PaymentIntent      text               `json:"payment_intent"`
	Reason             text               `json:"reason"`
	ReceiptNumber      null               `json:"receipt_number"`
	TransferReversalS  null               `json:"source_transfer_reversal"`
	Status             string             `json:"status"`
	TransferReversal   null               `json:"transfer_reversal"`
}

type refundDestination struct {
	Card map[string]string `json:"card,omitempty"`
	Type string            `json:"type"`
}

type dispute struct {
	ID                  string               `json:"id"`
	Object              string               `json:"object"`
	Amount              int64                `json:"amount"`
	BalanceTransactions []balanceTransaction `json:"balance_transactions"`
	Charge              string               `json:"charge"`
	Created             int64                `json:"created"`
	Currency            string               `json:"currency"`
	Evidence            map[string]any       `json:"evidence"`
	EvidenceDetails     evidenceDetails      `json:"evidence_details"`
	IsChargeRefundable  bool                 `json:"is_charge_refundable"`
	Livemode            bool                 `json:"livemode"`
	Metadata            map[string]string    `json:"metadata"`
	PaymentIntent       text                 `json:"payment_intent"`
	Reason              string               `json:"reason"`
	Status              string               `json:"status"`
}

type evidenceDetails struct {
	DueBy           *int64 `json:"due_by"`
	HasEvidence     bool   `json:"has_evidence"`
	PastDue         bool   `json:"past_due"`
	SubmissionCount int64  `json:"submission_count"`
}

type balanceTransaction struct {
	ID                string `json:"id"`
	Object            string `json:"object"`
	Amount            int64  `json:"amount"`
	AvailableOn       int64  `json:"available_on"`
	Created           int64  `json:"created"`
	Currency          string `json:"currency"`
	Description       text   `json:"description"`
	ExchangeRate      null   `json:"exchange_rate"`
	Fee               int64  `json:"fee"`
	FeeDetails        []fee  `json:"fee_details"`
	Net               int64  `json:"net"`
	ReportingCategory string `json:"reporting_category"`
	Source            text   `json:"source"`
	Status            string `json:"status"`
	Type              string `json:"type"`
}

type fee struct {
	Amount      int64  `json:"amount"`
	Application null   `json:"application"`
	Currency    string `json:"currency"`
	Description text   `json:"description"`
	Type        string `json:"type"`
}

type event struct {
	ID              string       `json:"id"`
	Object          string       `json:"object"`
	APIVersion      string       `json:"api_version"`
	Created         int64        `json:"created"`
	Data            eventData    `json:"data"`
	Livemode        bool         `json:"livemode"`
	PendingWebhooks int64        `json:"pending_webhooks"`
	Request         eventRequest `json:"request"`
	Type            string       `json:"type"`
}

type eventData struct {
	Object             json.RawMessage `json:"object"`
	PreviousAttributes json.RawMessage `json:"previous_attributes,omitempty"`
}

type eventRequest struct {
	ID             text `json:"id"`
	IdempotencyKey text `json:"idempotency_key"`
}

func (c *customer) ref() (string, int64)      { return c.ID, c.Created }
func (s *session) ref() (string, int64)       { return s.ID, s.Created }
func (p *paymentIntent) ref() (string, int64) { return p.ID, p.Created }
func (m *paymentMethod) ref() (string, int64) { return m.ID, m.Created }
func (c *charge) ref() (string, int64)        { return c.ID, c.Created }
func (r *refund) ref() (string, int64)        { return r.ID, r.Created }
func (d *dispute) ref() (string, int64)       { return d.ID, d.Created }
func (e *event) ref() (string, int64)         { return e.ID, e.Created }

const idAlphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// newID makes an id such as pi_3 followed by n random letters and digits.
func newID(prefix string, n int) string {
	b := make([]byte, 0, len(prefix)+n)
	b = append(b, prefix...)
	var raw [64]byte
	for len(b) < len(prefix)+n {
		_, _ = rand.Read(raw[:]) // never fails, by its documentation
		for _, r := range raw {
			// 248 is the largest multiple of 62 below 256: bytes above it would favour the first letters.
			if r < 248 && len(b) < len(prefix)+n {
				b = append(b, idAlphabet[int(r)%len(idAlphabet)])
			}
		}
	}
	return string(b)
}

// asMap gives an object as the members it has on the wire, numbers unchanged.
func asMap(v any) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var m map[string]any
	err = dec.Decode(&m)
	return m, err
}
