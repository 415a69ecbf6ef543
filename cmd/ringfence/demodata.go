package main

import "ringfence/internal/telephony"

// Who and what is in the demo's history. The sandbox alone is ever asked to reach these numbers.
var (
	demoPatients = []struct{ name, number string }{
		{"Maya", "+447400123412"},
		{"Tom", "+447400123445"},
		{"Aisha", "+447400123418"},
		{"Oliver", "+447400123457"},
		{"Grace", "+447400123433"},
		{"Ravi", "+447400123404"},
		{"Hannah", "+447400123421"},
		{"Callum", "+447400123416"},
		{"Leila", "+447400123402"},
		{"Ben", "+447400123478"},
		{"Sofia", "+447400123434"},
	}
	demoTexts = []string{
		"Harbour Dental: hello %s, a reminder of your check-up tomorrow at %s. Reply C to confirm or call us to move it.",
		"Harbour Dental: hello %s, we look forward to seeing you for your hygienist visit tomorrow at %s.",
		"Harbour Dental: hello %s, a chair has come free today at %s. Would you like to come earlier? Just call us.",
	}
	demoQuestions = []string{"opening hours on Saturday", "price of a check-up", "parking at the practice", "emergency appointment"}
	demoDocuments = []struct{ name, text string }{
		{"opening-hours.txt", "Opening hours\n\nHarbour Dental is open Monday to Thursday from 8:30 to 18:00 and on Friday from 8:30 to 16:00. " +
			"On Saturday we are open every second week, from 9:00 to 13:00. We are closed on Sundays and bank holidays.\n\n" +
			"Emergencies\n\nWe keep two emergency appointments free on every working day, at 9:00 and at 14:00. Call before 8:45 to get one. " +
			"Outside our hours call NHS 111.\n"},
		{"prices.txt", "Prices\n\nA check-up costs 52 pounds and takes 20 minutes. A visit to the hygienist costs 68 pounds. " +
			"A white filling costs from 110 pounds, a crown from 595 pounds. Children under 18 are seen free of charge under the NHS.\n\n" +
			"Missed appointments\n\nAppointments that are cancelled with less than 24 hours' notice cost 25 pounds.\n"},
		{"finding-us.txt", "Finding us\n\nHarbour Dental is at 12 Quayside, opposite the fish market. There is parking behind the building, " +
			"free for two hours; ask at the desk for a disc. The practice has a ramp and a lift. Bus 14 stops at the door.\n"},
	}
	demoAgents = []telephony.AgentFields{
		{
			Name: "Front desk", Active: true, Voice: "Emma", Knowledge: true,
			FirstMessage: "Harbour Dental, good morning. How can I help?",
			Prompt: "You answer the phone of Harbour Dental, a dental practice. Be warm and brief. Answer questions about opening hours, prices and how to find us " +
				"from what you can look up, and never guess. Take down name, number and wish of whoever wants an appointment.",
		},
		{
			Name: "Reminders", Active: true, Voice: "Elliot",
			FirstMessage: "Hello, this is Harbour Dental, about your appointment.",
			Prompt:       "You call patients to remind them of their appointment and ask whether they will come. Be brief, and thank them.",
		},
		{
			Name: "Out of hours", Active: true, Voice: "Clara", Knowledge: true,
			FirstMessage: "Harbour Dental is closed just now. Can I tell you when we open, or where to find help at once?",
			Prompt:       "You answer outside opening hours. Say when we open next. With pain, bleeding or swelling send callers to NHS 111 at once.",
		},
	}
)
