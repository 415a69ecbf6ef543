package handlers

import (
	"errors"
	"net/http"

	"ringfence/internal/fault"
	"ringfence/internal/telephony"
	"ringfence/internal/wallet"
	"ringfence/static"
)

// Route is one line of the table of contents.
type Route struct {
	Method  string
	Pattern string // of http.ServeMux
	Access  Access
	handle  func(*app, http.ResponseWriter, *http.Request, *visit) error
}

// Routes is the table of contents: every route there is and who may use it. Nothing else answers anything but 404 or 405.
func Routes() []Route { return table() }

func table() []Route {
	return []Route{
		{"GET", "/{$}", Public, (*app).home},
		{"GET", "/login", OptionalAuth, (*app).loginPage},
		{"POST", "/login", Public, (*app).login},
		{"GET", "/login/second-factor", Public, (*app).factorPage},
		{"POST", "/login/second-factor", Public, (*app).giveFactor},
		{"GET", "/signup", OptionalAuth, (*app).signUpPage},
		{"POST", "/signup", Public, (*app).signUp},
		{"GET", "/invitation", OptionalAuth, (*app).invitationPage},
		{"POST", "/invitation", OptionalAuth, (*app).acceptInvitation},
		{"GET", forgotPath, Public, (*app).forgotPage},
		{"POST", forgotPath, Public, (*app).askReset},
		{"GET", "/password/reset", Public, (*app).resetPage},
		{"POST", "/password/reset", Public, (*app).resetPassword},
		// Public, since a session that is over already must not stand in the way of leaving.
		{"POST", "/logout", Public, (*app).logout},

		{"GET", "/dashboard", Session, (*app).dashboard},
		{"GET", "/wallet", Session, (*app).wallet},
		{"POST", "/wallet/quote", Session, (*app).quote},
		{"POST", "/wallet/top-ups", Session, (*app).startTopUp},
		{"GET", "/wallet/top-ups/{id}", Session, (*app).topUp},
		{"GET", "/wallet/top-ups/{id}/invoice", Session, (*app).topUpInvoice},
		{"GET", "/wallet/stream", Session, (*app).walletStream},
		{"GET", "/wallet/transactions", Session, (*app).transactions},
		{"GET", "/wallet/transactions.csv", Session, (*app).transactionsCSV},
		{"GET", "/wallet/transactions/{id}", Session, (*app).transaction},
		{"GET", "/wallet/prices", Session, (*app).prices},
		{"GET", "/wallet/limits", Session, (*app).spendingLimits},
		{"POST", "/wallet/limits", Session, (*app).saveLimits},
		{"GET", autoTopUpPath, Session, (*app).autoTopUpPage},
		{"POST", autoTopUpPath, Session, (*app).setAutoTopUp},
		{"POST", autoTopUpPath + "/quote", Session, (*app).quoteAutoTopUp},
		{"POST", autoTopUpPath + "/off", Session, (*app).turnOffAutoTopUp},
		{"POST", autoTopUpPath + "/card", Session, (*app).saveCard},
		{"GET", autoTopUpPath + "/card/remove", Session, (*app).removeCardPage},
		{"POST", autoTopUpPath + "/card/remove", Session, (*app).removeCard},

		{"GET", "/knowledge", Session, (*app).knowledgePage},
		{"POST", "/knowledge/search", Session, (*app).searchKnowledge},
		{"POST", uploadPath, Session, (*app).upload},
		{"GET", "/knowledge/documents/{id}/delete", Session, (*app).deleteDocumentPage},
		{"POST", "/knowledge/documents/{id}/delete", Session, (*app).deleteDocument},

		{"GET", callsPath, Session, (*app).callsPage},
		{"POST", callsPath, Session, (*app).placeCall},
		{"POST", callsPath + "/quote", Session, (*app).quoteCall},
		{"GET", callsPath + "/{id}", Session, (*app).callPage},
		{"POST", callsPath + "/{id}/hangup", Session, (*app).hangUpCall},
		{"GET", callsPath + "/{id}/erase", Session, (*app).eraseCallPage},
		{"POST", callsPath + "/{id}/erase", Session, (*app).eraseCall},

		{"GET", "/messages", Session, (*app).messagesPage},
		{"POST", "/messages", Session, (*app).sendMessage},
		{"POST", "/messages/quote", Session, (*app).quoteMessage},
		{"GET", "/messages/{id}", Session, (*app).messagePage},
		{"GET", "/messages/{id}/conversation", Session, (*app).conversationPage},

		{"GET", "/numbers", Session, (*app).numbersPage},
		{"POST", "/numbers", Session, (*app).buyNumber},
		{"GET", "/numbers/buy", Session, (*app).buyNumberPage},
		{"GET", "/numbers/{id}", Session, (*app).numberPage},
		{"GET", "/numbers/{id}/release", Session, (*app).releaseNumberPage},
		{"POST", "/numbers/{id}/release", Session, (*app).releaseNumber},
		{"GET", callerIDsPath, Session, (*app).callerIDsPage},
		{"POST", callerIDsPath, Session, (*app).verifyCallerID},
		{"GET", callerIDsPath + "/{id}", Session, (*app).callerIDPage},
		{"GET", callerIDsPath + "/{id}/remove", Session, (*app).removeCallerIDPage},
		{"POST", callerIDsPath + "/{id}/remove", Session, (*app).removeCallerID},
		{"GET", credentialsPath, Session, (*app).credentialsPage},
		{"POST", credentialsPath, Session, (*app).saveCredential},
		{"POST", credentialsPath + "/test", Session, (*app).testCredential},
		{"POST", credentialsPath + "/mode", Session, (*app).setNumberMode},
		{"GET", credentialsPath + "/remove", Session, (*app).removeCredentialPage},
		{"POST", credentialsPath + "/remove", Session, (*app).removeCredential},

		{"GET", agentsPath, Session, (*app).agentsPage},
		{"POST", agentsPath, Session, (*app).makeAgent},
		{"GET", agentsPath + "/new", Session, (*app).newAgentPage},
		{"GET", agentsPath + "/{id}", Session, (*app).agentPage},
		{"POST", agentsPath + "/{id}", Session, (*app).saveAgent},
		{"POST", agentsPath + "/{id}/link", Session, (*app).linkAgent},
		{"POST", agentsPath + "/{id}/unlink", Session, (*app).unlinkAgent},
		{"POST", agentsPath + "/{id}/call", Session, (*app).testCall},
		{"POST", agentsPath + "/{id}/call/quote", Session, (*app).quoteTestCall},
		{"GET", agentsPath + "/{id}/delete", Session, (*app).deleteAgentPage},
		{"POST", agentsPath + "/{id}/delete", Session, (*app).deleteAgent},

		{"GET", "/notices", Session, (*app).noticesPage},
		{"GET", "/settings/notices", Session, (*app).noticeSettings},
		{"POST", "/settings/notices", Session, (*app).saveNoticeSettings},
		{"GET", privacyPath, Session, (*app).privacyPage},
		{"POST", privacyPath, Session, (*app).saveRetention},
		{"POST", privacyPath + "/erase", Session, (*app).erasePerson},

		{"GET", "/ops", Operator, (*app).ops},
		{"POST", "/ops/verify", Operator, (*app).verifyNow},
		{"GET", incidentsPath, Operator, (*app).opsIncidents},
		{"POST", incidentsPath, Operator, (*app).postIncident},
		{"GET", incidentsPath + "/{id}", Operator, (*app).opsIncident},
		{"POST", incidentsPath + "/{id}", Operator, (*app).updateIncident},
		{"GET", "/ops/stripe-events", Operator, (*app).stripeEvents},
		{"GET", "/ops/stripe-events/replay-failed", Operator, (*app).replayFailedPage},
		{"POST", "/ops/stripe-events/replay-failed", Operator, (*app).replayFailed},
		{"GET", "/ops/stripe-events/{id}", Operator, (*app).stripeEvent},
		{"GET", "/ops/stripe-events/{id}/payload", Operator, (*app).stripePayload},
		{"POST", "/ops/stripe-events/{id}/replay", Operator, (*app).replayEvent},
		{"GET", "/ops/wallets", Operator, (*app).opsWallets},
		{"GET", "/ops/wallets/{id}", Operator, (*app).opsWallet},
		{"GET", "/ops/wallets/{id}/freeze", Operator, (*app).freezePage},
		{"POST", "/ops/wallets/{id}/freeze", Operator, (*app).freeze},
		{"GET", "/ops/wallets/{id}/thaw", Operator, (*app).thawPage},
		{"POST", "/ops/wallets/{id}/thaw", Operator, (*app).thaw},
		{"GET", "/ops/wallets/{id}/adjust", Operator, (*app).adjustPage},
		{"POST", "/ops/wallets/{id}/adjust", Operator, (*app).adjust},
		{"GET", "/ops/wallets/{id}/withdraw", Operator, (*app).withdrawPage},
		{"POST", "/ops/wallets/{id}/withdraw", Operator, (*app).withdraw},
		{"GET", "/ops/wallets/{id}/close", Operator, (*app).closePage},
		{"POST", "/ops/wallets/{id}/close", Operator, (*app).close},
		{"GET", "/ops/wallets/{id}/reopen", Operator, (*app).reopenPage},
		{"POST", "/ops/wallets/{id}/reopen", Operator, (*app).reopen},
		{"GET", organisationsPath, Operator, (*app).organisations},
		{"GET", organisationsPath + "/new", Operator, (*app).newOrganisation},
		{"POST", organisationsPath, Operator, (*app).openOrganisation},
		{"GET", organisationsPath + "/{id}", Operator, (*app).organisation},
		{"GET", organisationsPath + "/{id}/suspend", Operator, (*app).suspendPage},
		{"POST", organisationsPath + "/{id}/suspend", Operator, (*app).suspend},
		{"GET", organisationsPath + "/{id}/unsuspend", Operator, (*app).unsuspendPage},
		{"POST", organisationsPath + "/{id}/unsuspend", Operator, (*app).unsuspend},
		{"GET", organisationsPath + "/{id}/view", Operator, (*app).viewPage},
		{"POST", organisationsPath + "/{id}/view", Operator, (*app).startView},
		// For persons, since it is how an operator becomes one again who may change something.
		{"POST", endViewPath, Person, (*app).endView},
		{"GET", "/ops/prices", Operator, (*app).opsPrices},
		{"GET", "/ops/prices/new", Operator, (*app).newPrice},
		{"POST", "/ops/prices", Operator, (*app).setPrice},
		{"GET", opsAutoTopUpsPath, Operator, (*app).opsAutoTopUps},
		{"POST", opsAutoTopUpsPath, Operator, (*app).switchAutoTopUps},
		{"GET", "/ops/prices/rate", Operator, (*app).ratePage},
		{"POST", "/ops/prices/rate", Operator, (*app).setRate},

		{"GET", integrityPath, Operator, (*app).integrity},
		{"GET", integrityPath + "/numbers/{id}", Operator, (*app).mendNumberPage},
		{"POST", integrityPath + "/numbers/{id}", Operator, (*app).mendNumber},
		{"GET", integrityPath + "/strays", Operator, (*app).removeStrayPage},
		{"POST", integrityPath + "/strays", Operator, (*app).removeStray},
		{"GET", integrityPath + "/links", Operator, (*app).mendLinksPage},
		{"POST", integrityPath + "/links", Operator, (*app).mendLinks},

		{"GET", jobsPath, Operator, (*app).opsJobs},
		{"GET", jobsPath + "/{id}", Operator, (*app).opsJob},
		{"POST", jobsPath + "/{id}/retry", Operator, (*app).retryJob},
		{"POST", jobsPath + "/{id}/cancel", Operator, (*app).cancelJob},
		// River's own pages, for reading alone: only GET leads there.
		{"GET", riverPath, Operator, (*app).riverPages},

		{"GET", marginPath, Operator, (*app).opsMargin},
		{"GET", marginPath + ".csv", Operator, (*app).opsMarginCSV},
		{"POST", marginPath + "/numbers", Operator, (*app).setNumberCost},

		{"GET", auditPath, Operator, (*app).opsAudit},
		{"GET", auditPath + ".csv", Operator, (*app).opsAuditCSV},
		{"GET", auditPath + "/{id}", Operator, (*app).opsAuditRow},

		{"GET", settingsPath, Person, (*app).settings},
		{"POST", "/settings/theme", Person, (*app).setTheme},
		{"GET", securityPath, Person, (*app).security},
		{"POST", "/settings/password", Person, (*app).changePassword},
		{"POST", "/settings/organisation", Person, (*app).switchOrganisation},
		{"GET", "/settings/second-factor", Person, (*app).factorSettings},
		{"POST", "/settings/second-factor", Person, (*app).beginFactor},
		{"POST", "/settings/second-factor/confirm", Person, (*app).confirmFactor},
		{"POST", "/settings/second-factor/recovery-codes", Person, (*app).newRecoveryCodes},
		{"POST", "/settings/second-factor/remove", Person, (*app).removeFactor},
		{"GET", sessionsPath, Person, (*app).devices},
		{"POST", sessionsPath + "/end", Person, (*app).endDevice},
		{"POST", sessionsPath + "/end-others", Person, (*app).endOtherDevices},
		{"GET", membersPath, Session, (*app).members},
		{"GET", membersPath + "/leave", Session, (*app).leavePage},
		{"POST", membersPath + "/leave", Session, (*app).leave},
		{"POST", membersPath + "/invitations", Session, (*app).invite},
		{"POST", membersPath + "/invitations/{id}/resend", Session, (*app).resendInvitation},
		{"POST", membersPath + "/invitations/{id}/revoke", Session, (*app).revokeInvitation},
		{"GET", membersPath + "/{id}", Session, (*app).memberPage},
		{"POST", membersPath + "/{id}/role", Session, (*app).changeRole},
		{"POST", membersPath + "/{id}/remove", Session, (*app).removeMember},
		{"GET", webhooksPath, Session, (*app).webhooksPage},
		{"POST", webhooksPath, Session, (*app).createWebhook},
		{"GET", webhooksPath + "/new", Session, (*app).newWebhookPage},
		{"GET", webhooksPath + "/{id}", Session, (*app).webhookPage},
		{"POST", webhooksPath + "/{id}", Session, (*app).changeWebhook},
		{"POST", webhooksPath + "/{id}/roll", Session, (*app).rollWebhook},
		{"POST", webhooksPath + "/{id}/test", Session, (*app).testWebhook},
		{"POST", webhooksPath + "/{id}/switch", Session, (*app).switchWebhook},
		{"GET", webhooksPath + "/{id}/remove", Session, (*app).removeWebhookPage},
		{"POST", webhooksPath + "/{id}/remove", Session, (*app).removeWebhook},
		{"GET", deliveriesPath + "/{id}", Session, (*app).deliveryPage},
		{"POST", deliveriesPath + "/{id}/resend", Session, (*app).resendWebhook},
		{"GET", keysPath, Session, (*app).keys},
		{"POST", keysPath, Session, (*app).createKey},
		{"POST", keysPath + "/{id}/revoke", Session, (*app).revokeKey},

		{"GET", "/api/v1/wallet", RequireAuthOrDev, (*app).apiWallet},
		{"GET", "/api/v1/messages", RequireAuthOrDev, (*app).apiMessages},
		{"POST", "/api/v1/messages", RequireAuthOrDev, (*app).apiSendMessage},
		{"GET", "/api/v1/messages/{id}", RequireAuthOrDev, (*app).apiMessageByID},
		{"GET", "/api/v1/calls", RequireAuthOrDev, (*app).apiCalls},
		{"POST", "/api/v1/calls", RequireAuthOrDev, (*app).apiPlaceCall},
		{"GET", "/api/v1/calls/{id}", RequireAuthOrDev, (*app).apiCallByID},
		{"POST", "/api/v1/calls/{id}/hangup", RequireAuthOrDev, (*app).apiHangUp},
		{"POST", "/api/v1/holds", RequireAuthOrDev, (*app).createHold},
		{"POST", "/api/v1/holds/{id}/capture", RequireAuthOrDev, (*app).captureHold},
		{"POST", "/api/v1/holds/{id}/void", RequireAuthOrDev, (*app).voidHold},
		{"GET", "/api/v1/numbers", RequireAuthOrDev, (*app).apiNumbers},
		{"GET", "/api/v1/numbers/available", RequireAuthOrDev, (*app).apiAvailableNumbers},
		{"POST", "/api/v1/numbers", RequireAuthOrDev, (*app).apiBuyNumber},
		{"GET", "/api/v1/numbers/{id}", RequireAuthOrDev, (*app).apiNumber},
		{"DELETE", "/api/v1/numbers/{id}", RequireAuthOrDev, (*app).apiReleaseNumber},
		{"GET", "/api/v1/agents", RequireAuthOrDev, (*app).apiAgents},
		{"POST", "/api/v1/agents", RequireAuthOrDev, (*app).apiMakeAgent},
		{"GET", "/api/v1/agents/{id}", RequireAuthOrDev, (*app).apiAgent},
		{"PATCH", "/api/v1/agents/{id}", RequireAuthOrDev, (*app).apiChangeAgent},
		{"DELETE", "/api/v1/agents/{id}", RequireAuthOrDev, (*app).apiDeleteAgent},
		{"PUT", "/api/v1/agents/{id}/number", RequireAuthOrDev, (*app).apiLinkAgent},
		{"DELETE", "/api/v1/agents/{id}/number", RequireAuthOrDev, (*app).apiUnlinkAgent},
		{"POST", "/api/v1/knowledge/search", RequireAuthOrDev, (*app).apiSearchKnowledge},

		{"GET", apiWebhooksPath, RequireAuthOrDev, (*app).apiWebhooks},
		{"POST", apiWebhooksPath, RequireAuthOrDev, (*app).apiCreateWebhook},
		{"GET", apiWebhooksPath + "/{id}", RequireAuthOrDev, (*app).apiWebhook},
		{"PATCH", apiWebhooksPath + "/{id}", RequireAuthOrDev, (*app).apiChangeWebhook},
		{"DELETE", apiWebhooksPath + "/{id}", RequireAuthOrDev, (*app).apiRemoveWebhook},
		{"POST", apiWebhooksPath + "/{id}/roll-secret", RequireAuthOrDev, (*app).apiRollWebhook},

		{"GET", specPath, Public, (*app).openAPI},
		{"GET", "/api/docs", OptionalAuth, (*app).apiDocs},

		{"POST", "/api/webhooks/stripe", Webhook, (*app).stripeWebhook},
		{"POST", "/api/webhooks/twilio/sms", Webhook, (*app).twilioSMS},
		{"POST", "/api/webhooks/twilio/status", Webhook, (*app).twilioStatus},
		{"POST", telephony.WebhookPath, Webhook, (*app).vapiWebhook},

		{"GET", statusPath, Public, (*app).status},
		{"GET", statusJSONPath, Public, (*app).statusJSON},

		{"GET", "/healthz", Public, (*app).healthz},
		{"GET", "/readyz", Public, (*app).readyz},
		{"GET", "/metrics", Operator, (*app).metricsPage},
		{"GET", static.Prefix, Public, (*app).staticFile},
	}
}

// home leads to the first page.
func (a *app) home(w http.ResponseWriter, r *http.Request, _ *visit) error {
	http.Redirect(w, r, "/dashboard", http.StatusSeeOther)
	return nil
}

func (a *app) staticFile(w http.ResponseWriter, r *http.Request, _ *visit) error {
	static.Handler().ServeHTTP(w, r)
	return nil
}

// endpoint is the way of every request to its route's handler: who asks, may they, and did they mean to.
func (a *app) endpoint(rt Route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v := visitOf(r)
		v.route = &rt
		err := a.limitAPI(r, v)
		switch {
		case err == nil:
			if err = rt.handle(a, w, r, v); v.who.Suspended && v.is(Session) && fault.Is(err, fault.Forbidden) {
				err = wallet.ErrSuspended("so nothing can be changed") // whatever else would be in the way
			}
		case errors.Is(err, errNoOrganisation) && rt.Pattern == "/dashboard" && v.who.Operator:
			// Where everybody lands after signing in has nothing to show to an operator without a wallet.
			http.Redirect(w, r, "/ops", http.StatusSeeOther)
			return
		}
		if err != nil {
			a.fail(w, r, v, err)
		}
	})
}

func errNoPage() error {
	return fault.New(fault.NotFound, "There is no such page here. Check the address, or go on from the start.")
}
